# SPDX-License-Identifier: Apache-2.0
"""Chromium without a screen, driven through chromedriver as W3C WebDriver says; and what it shows of OHIF."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests

from custom.files import write_bytes

from .servers import chromedriver

ANSWERS_IN, SHOWN_IN = 120, 60  # seconds at most
OPTIONS = [
    "--headless=new",
    "--no-sandbox",  # Chromium refuses root with a sandbox; what it opens are our own servers
    "--window-size=1500,760",
    "--use-angle=swiftshader",  # WebGL without a GPU
    "--enable-unsafe-swiftshader",
]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element in W3C WebDriver


class Browser:
    """A window of Chromium, from `with` to its end.

    Args:
        driver: address of chromedriver.
        profile: folder for Chromium's files.
    """

    def __init__(self, driver: str, profile: Path) -> None:
        options = {"args": [*OPTIONS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "timeouts": {"implicit": 1000 * SHOWN_IN}}
        self.session = f"{driver}/session"
        answer = self._ask("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        self.session += f"/{answer['sessionId']}"

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._ask("DELETE", "")

    def open(self, address: str) -> None:
        """Goes to a page."""
        self._ask("POST", "/url", {"url": address})

    def wait_for(self, path: str) -> str:
        """The element at an XPath, as soon as the page has it."""
        return self._ask("POST", "/element", {"using": "xpath", "value": path})[ELEMENT]

    def click(self, path: str, times: int = 1) -> None:
        """Clicks an element.

        Args:
            path: its XPath.
            times: 2 for a double click.
        """
        target = {"type": "pointerMove", "origin": {ELEMENT: self.wait_for(path)}, "x": 0, "y": 0}
        press = [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        mouse = {"type": "pointer", "id": "mouse", "actions": [target, *press * times]}
        self._ask("POST", "/actions", {"actions": [mouse]})

    def picture(self) -> bytes:
        """The window as PNG, as soon as it is the same for three seconds."""
        end, seen = time.monotonic() + SHOWN_IN, [self._screenshot()]
        while time.monotonic() < end:
            time.sleep(1)
            seen.append(self._screenshot())
            if len(seen) > 3 and len(set(seen[-4:])) == 1:
                return base64.b64decode(seen[-1])
        raise TimeoutError(f"the page still changes after {SHOWN_IN} seconds")

    def _screenshot(self) -> str:
        return self._ask("GET", "/screenshot")

    def _ask(self, method: str, path: str, content: dict[str, Any] | None = None) -> Any:
        answer = requests.request(method, self.session + path, json=content, timeout=ANSWERS_IN)
        value = answer.json()["value"]
        if not answer.ok:
            raise RuntimeError(f"Chromium: {value['message']}")
        return value


def photograph(study: str, segmentation: str, names: Sequence[str], picture: Path, folder: Path) -> None:
    """Opens a segmentation in OHIF over its CT, in three planes, and writes what the window shows.

    Args:
        study: address of the study in OHIF.
        segmentation: description of its series.
        names: of its segments.
        picture: PNG file.
        folder: for logs and Chromium's files.
    """
    with chromedriver(folder) as driver, Browser(driver.address, folder / "chromium") as browser:
        browser.open(study)
        browser.click("//button[.='Confirm and Hide']")
        browser.click(f"//*[text()='{segmentation}']", times=2)
        browser.click("//button[.='Yes']")  # whether to open the segmentation
        browser.click("//*[@data-cy='panelSegmentation-btn']")
        for name in names:
            browser.wait_for(f"//*[text()='{name}']")
        browser.click("//*[@data-cy='Layout']")
        browser.click("//*[text()='MPR']")
        browser.wait_for("(//*[@data-cy='viewport-pane'])[3]")
        write_bytes(picture, browser.picture())
