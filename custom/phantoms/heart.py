# SPDX-License-Identifier: Apache-2.0
"""The shapes of the heart and the great vessels in the frame of the heart, and the random numbers that vary them.

Atlas frame: RAS millimetres, origin near the middle of the heart, +x to the right of the patient. The proportions were
set by eye to resemble contrast cardiac CT; they are not measurements of a person.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from .shapes import (
    basis_along,
    ellipsoid,
    half_space,
    intersection,
    random_rotation,
    smooth_intersection,
    smooth_union,
    snap_to_surfaces,
    spheres,
    spline,
    subtract,
)

TRICUSPID_NORMAL = np.array([0.88, -0.38, 0.2])  # from the ventricle to the atrium
PIVOT = np.array([-15.0, 8.0, -4.0])  # rotation and size are applied about this point


class Heart:
    """One heart. The constructor draws every number that varies from `rng`, in a fixed order.

    A method with the name of a structure takes points (3, ...) of the heart frame and returns their signed distance in
    mm to that structure.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rotation = random_rotation(rng, 15.0)
        self.size = rng.uniform(0.95, 1.05)
        self.shift = rng.uniform([-7, -3, -6], [7, 3, 6])
        vary = partial(self._vary, rng)
        move = partial(self._move, rng)

        self.mitral = move([-28, -10, 0])
        self.lv_axes = basis_along(move([-48, 44, -27], 4))
        self.lv_length, self.lv_radius = vary(76, 0.1), vary(25, 0.13)
        self.lv_flattening = rng.uniform(0.9, 1.1)
        self.wall = rng.uniform(8.0, 11.5)
        self.annulus, self.aortic_normal = move([-9, 5, 7], 1), np.array([0.05, 0.35, 0.94])
        self.la_center, self.la_axes = move([8, -29, 13]), vary([33, 21, 24], 0.12)
        self.ra_center, self.ra_axes = move([31, 9, -8]), vary([23, 28, 31], 0.12)
        self.tricuspid = move([6, 25, -14])
        self.rv_center, self.rv_semi_axes = move([-20, 36, -21]), vary([43, 22, 29], 0.1)
        self.rv_axes = basis_along(move([-76, 26, -22], 4))
        self.pulmonic, self.pulmonic_normal = move([-29, 34, 27], 1.5), np.array([-0.2, -0.45, 0.87])
        self.fat = rng.uniform(0.5, 4.0)
        self.papillary = rng.uniform(3.0, 4.5)
        aorta, trunk = vary(1, 0.12), vary(1, 0.12)
        self.aortic_path = np.array(
            [
                [*(self.annulus - [0, 2, 5]), 11.5 * aorta],
                [*move([-10, 9, 17], 1), 16.0 * aorta],
                [*move([-9, 13, 29], 1), 13.5 * aorta],
                [*move([-5, 13, 43], 1.5), 15.0 * aorta],
                [*move([-3, 9, 58]), 15.0 * aorta],
                [*move([-7, 0, 72]), 14.0 * aorta],
                [*move([-15, -17, 82]), 13.0 * aorta],
                [*move([-24, -37, 81]), 12.5 * aorta],
            ]
        )
        self.trunk_path = np.array(
            [
                [*(self.pulmonic - self.pulmonic_normal * 4), 13.0 * trunk],
                [*move([-34, 22, 41], 1), 14.0 * trunk],
                [*move([-33, 3, 51], 1), 13.5 * trunk],
                [*move([-25, -13, 52], 1), 12.0 * trunk],
            ]
        )
        self.right_pa_path = np.array(
            [
                [-27, -8, 51, 11.0 * trunk],
                [-8, -20, 49, 10.5 * trunk],
                [*move([17, -25, 47], 1), 10.0 * trunk],
                [*move([38, -25, 43], 1), 8.5 * trunk],
                [*move([52, -25, 36], 1), 6.0 * trunk],
            ]
        )
        self.left_pa_path = np.array(
            [
                [-31, -6, 52, 11.5 * trunk],
                [*move([-38, -26, 57], 1), 10.5 * trunk],
                [*move([-46, -42, 53], 1), 9.0 * trunk],
                [*move([-49, -52, 41], 1), 7.0 * trunk],
            ]
        )
        self.vena_cava_path = np.array(
            [[*move([24, -2, 24], 1), 9.5], [*move([23, -5, 45], 1), 9.0], [20, -3, 70, 8.5], [17, 1, 100, 8.0]]
        )
        self.lower_cava_path = np.array([[22, -2, -20, 11.0], [18, -6, -38, 11.5], [15, -12, -66, 12.0]])
        self.vein_paths = [
            np.array([[*self.la_center, 9.0], [33, -27, 22, 8.0], [48, -25, 28, 6.0], [62, -18, 32, 4.0]]),
            np.array([[*self.la_center, 9.0], [33, -39, 8, 8.0], [48, -47, 3, 6.0], [62, -56, -6, 4.0]]),
            np.array([[*self.la_center, 9.0], [-18, -32, 24, 8.0], [-36, -29, 32, 5.5], [-54, -22, 38, 4.0]]),
            np.array([[*self.la_center, 9.0], [-18, -42, 10, 8.0], [-36, -50, 5, 5.5], [-54, -60, -4, 4.0]]),
        ]
        self.vein_root = rng.uniform(0.42, 0.55)  # share of each vein that is labelled left atrium
        self.la_appendage = spline(
            [[-16, -24, 21, 9.0], [-33, -15, 31, 7.0], [*move([-44, 0, 37], 1.0), 6.0], [-46, 10, 39, 4.0]], 2.5
        )
        self.ra_appendage = spline([[28, 16, 10, 10.0], [*move([21, 31, 18], 1.5), 8.5], [10, 39, 24, 5.0]], 2.5)
        self.outflow_path = np.array(
            [
                [*self.along_left_ventricle(20), 10.0],
                [*(self.along_left_ventricle(9) * 0.45 + self.annulus * 0.55), 11.0],
                [*(self.annulus + self.aortic_normal * 2), 11.0 * aorta],
            ]
        )
        self.rv_outflow = spline(
            [
                [-17, 40, -14, 19.0],
                [-24, 42, 2, 16.0],
                [*(self.pulmonic - self.pulmonic_normal * 10 + [1, 3, 0]), 13.5],
                [*(self.pulmonic + self.pulmonic_normal * 2), 13.0 * trunk],
            ],
            3.0,
        )

    @staticmethod
    def _vary(rng: np.random.Generator, value, share: float):
        return np.asarray(value) * rng.uniform(1 - share, 1 + share, size=np.shape(value))

    @staticmethod
    def _move(rng: np.random.Generator, position, reach: float = 2.0) -> np.ndarray:
        return np.asarray(position, dtype=np.float64) + rng.uniform(-reach, reach, size=3)

    def along_left_ventricle(self, depth: float) -> np.ndarray:
        """Point on the long axis of the left ventricle, `depth` mm from the mitral valve towards the apex."""
        return self.mitral + self.lv_axes[:, 0] * depth

    def lowest_point(self) -> float:
        """Atlas height (mm) of the underside of the ventricles."""
        left = self.to_atlas(self.along_left_ventricle(0.5 * self.lv_length)[None])[0, 2]
        right = self.to_atlas(self.rv_center[None])[0, 2]
        return min(left - (self.lv_radius + self.wall) * self.size, right - 0.85 * self.rv_semi_axes[2] * self.size)

    # Frames -----------------------------------------------------------------------------------------------------

    def to_atlas(self, path: np.ndarray) -> np.ndarray:
        """Positions (n, 3) or path (n, 4) of the heart frame in atlas coordinates; radii are scaled with the heart."""
        position = (path[:, :3] - PIVOT) * self.size @ self.rotation.T + PIVOT + self.shift
        return np.column_stack([position, path[:, 3:] * self.size])

    def from_atlas(self, points: np.ndarray) -> np.ndarray:
        """Atlas points (3, ...) in the heart frame."""
        matrix = (self.rotation.T / self.size).astype(np.float32)
        offset = [points[axis] - np.float32((PIVOT + self.shift)[axis]) for axis in range(3)]
        return np.stack(
            [sum(matrix[row, axis] * offset[axis] for axis in range(3)) + np.float32(PIVOT[row]) for row in range(3)]
        )

    # Shapes -----------------------------------------------------------------------------------------------------

    def mitral_plane(self, points: np.ndarray) -> np.ndarray:
        """Height above the mitral plane in mm, negative on the side of the ventricle."""
        return half_space(points, self.mitral, -self.lv_axes[:, 0])

    def tricuspid_plane(self, points: np.ndarray) -> np.ndarray:
        """Height above the tricuspid plane in mm, negative on the side of the ventricle."""
        return half_space(points, self.tricuspid, TRICUSPID_NORMAL)

    def left_ventricle_outer(self, points: np.ndarray) -> np.ndarray:
        """Epicardial ellipsoid of the left ventricle, not cut at the base."""
        radius = self.lv_radius + self.wall
        semi_axes = (self.lv_length * 0.58 + 0.8 * self.wall, radius * self.lv_flattening, radius / self.lv_flattening)
        return ellipsoid(points, self.along_left_ventricle(0.42 * self.lv_length), semi_axes, self.lv_axes)

    def left_ventricle_inner(self, points: np.ndarray) -> np.ndarray:
        """Endocardial ellipsoid, not cut at the base."""
        radius = self.lv_radius
        semi_axes = (self.lv_length * 0.58, radius * self.lv_flattening, radius / self.lv_flattening)
        return ellipsoid(points, self.along_left_ventricle(0.42 * self.lv_length), semi_axes, self.lv_axes)

    def left_atrium(self, points: np.ndarray) -> np.ndarray:
        """Body, vestibule towards the mitral valve and appendage; above the mitral plane."""
        axes = basis_along([1, 0.1, -0.15])
        toward = np.linspace(0, 1, 6)[:, None]
        vestibule = np.column_stack(
            [self.la_center * (1 - toward) + self.mitral * toward, np.linspace(17, 0.66 * self.lv_radius, 6)]
        )
        body = ellipsoid(points, self.la_center, self.la_axes, axes)
        body = smooth_union(body, spheres(points, vestibule), 8)
        body = smooth_union(body, spheres(points, self.la_appendage), 5)
        return subtract(body, self._left_ventricle_below_base(points, 0) - 0.5)

    def _left_ventricle_below_base(self, points: np.ndarray, base: float) -> np.ndarray:
        return smooth_intersection(self.left_ventricle_outer(points), self.mitral_plane(points) - base, 6)

    def right_atrium(self, points: np.ndarray) -> np.ndarray:
        """Body, vestibule towards the tricuspid valve and appendage; behind the tricuspid plane."""
        toward = np.linspace(0, 1, 5)[:, None]
        vestibule = np.column_stack([self.ra_center * (1 - toward) + self.tricuspid * toward, np.linspace(20, 18, 5)])
        body = ellipsoid(points, self.ra_center, self.ra_axes, basis_along([1, 0.2, 0.1], (0.15, -0.25, 1)))
        body = smooth_union(body, spheres(points, vestibule), 8)
        body = smooth_union(body, spheres(points, self.ra_appendage), 6)
        return intersection(body, -self.tricuspid_plane(points))

    def right_ventricle(self, points: np.ndarray) -> np.ndarray:
        """Body around the septum, and outflow tract up to the pulmonary valve."""
        body = ellipsoid(points, self.rv_center, self.rv_semi_axes, self.rv_axes)
        body = smooth_intersection(body, self.tricuspid_plane(points), 3)
        outflow = spheres(points, self.rv_outflow)
        outflow = intersection(outflow, half_space(points, self.pulmonic, self.pulmonic_normal))
        return smooth_union(body, outflow, 8)

    def right_ventricle_cavity(self, points: np.ndarray) -> np.ndarray:
        """Right ventricle without the septum."""
        return smooth_intersection(self.right_ventricle(points), 0.5 - self._left_ventricle_below_base(points, 2), 3)

    # Coronary arteries ------------------------------------------------------------------------------------------

    def coronary_paths(self) -> dict[str, np.ndarray]:
        """Centre lines with radii (n, 4) by name, in the heart frame. They follow the grooves between the chambers."""
        left = self.left_ventricle_outer

        def right(points):
            return self.right_ventricle(points) - 3

        def right_atrium(points):
            return self.right_atrium(points) - 2.5

        def in_groove(guide, surfaces, levels):
            """Move the points to the surfaces, smooth them and move them again, so that the path has no kinks."""
            course = snap_to_surfaces(guide, surfaces, levels)
            course[1:-1] = (course[:-2] + 2 * course[1:-1] + course[2:]) / 4
            return snap_to_surfaces(course, surfaces, levels, iterations=4)

        sinus, radius = self.aortic_path[1, :3], self.aortic_path[1, 3]
        left_start = sinus + np.array([-0.86, -0.35, 0.3]) * radius
        right_start = sinus + np.array([0.62, 0.74, 0.2]) * radius
        apex = self.along_left_ventricle(self.lv_length)

        guide = np.linspace([-38, 24, 17], apex + [-2, 14, 4], 9)
        guide += np.sin(np.linspace(0, np.pi, 9))[:, None] * [-4, 8, 8]
        descending = in_groove(guide, [left, right], [3.0, 3.0])
        main_end = np.mean([left_start, descending[0]], axis=0) + [-3, -2, 1]

        angles = np.deg2rad(np.linspace(70, -65, 9))
        leftward = self.lv_axes[:, 1] * -np.sign(self.lv_axes[0, 1])  # +x is the patient's right
        rim = np.outer(np.cos(angles), leftward) + np.outer(np.sin(angles), self.lv_axes[:, 2])
        ring = 0.8 * (self.lv_radius + self.wall)
        circumflex = snap_to_surfaces(self.mitral + ring * rim, [left, self.mitral_plane], [3.0, 0.0])

        plane = basis_along(TRICUSPID_NORMAL)
        angles = np.deg2rad(np.linspace(65, -80, 11))
        rim = np.outer(np.cos(angles), plane[:, 1]) + np.outer(np.sin(angles), plane[:, 2])
        rightward = in_groove(self.tricuspid + 27 * rim, [right_atrium, right], [2.0, 2.0])

        posterior = in_groove(np.linspace(rightward[-1], apex + [6, -2, -12], 7)[1:], [left, right], [2.5, 2.5])
        side = self.along_left_ventricle(0.7 * self.lv_length)
        diagonal = snap_to_surfaces(np.linspace(descending[3], side + [-25, 0, 18], 5)[1:], [left], [2.5])
        marginal = snap_to_surfaces(np.linspace(circumflex[4], side + [-22, -22, -5], 5)[1:], [left], [2.5])

        def tube(points, first, last):
            samples = spline(np.column_stack([points, np.linspace(first, last, len(points))]), 0.7)
            for chamber in (self.left_atrium, right_atrium, right, left):  # no artery runs through a chamber
                buried = chamber(samples[:, :3].T) < 1.5
                samples[buried, :3] = snap_to_surfaces(samples[buried, :3], [chamber], [1.5], iterations=4)
            return spline(np.vstack([samples[:-1:4], samples[-1:]]), 0.6)  # closes the gaps that these moves have made

        return {
            "left_main": tube(np.stack([left_start, main_end]), 2.3, 2.1),
            "left_anterior_descending": tube(np.vstack([main_end, descending]), 2.0, 1.0),
            "left_circumflex": tube(np.vstack([main_end, circumflex]), 1.8, 1.0),
            "right_coronary": tube(np.vstack([right_start, rightward]), 2.0, 1.3),
            "posterior_descending": tube(np.vstack([rightward[-1], posterior]), 1.2, 0.9),
            "diagonal": tube(np.vstack([descending[3], diagonal]), 1.3, 0.8),
            "obtuse_marginal": tube(np.vstack([circumflex[4], marginal]), 1.3, 0.8),
        }
