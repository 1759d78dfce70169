# SPDX-License-Identifier: Apache-2.0
"""The hooks of mkdocs.yml, which make the site from the files of the repository."""
