"""What `rdmm shoot` wrote, beside the same equations in numpy (periodic boundary).

Usage: shoot.py FOLDER, where FOLDER holds shot.json (model, spacing, sigmas, shares or preweight_sigma and
advect, steps), momentum.npy, perhaps preweights.npy, and the results of the program in out/. It prints the largest
differences, each relative to the largest value, as one JSON object.

Nothing is taken from the program but its results: Gaussians are applied by numpy's FFT, the equations are written
for fields on a torus, and the maps follow single points through the trigonometric interpolant of the velocity,
in time steps of their own.
"""

import json
import pathlib
import sys

import numpy as np


class Torus:
    """A periodic grid with its differences and Gaussians."""

    def __init__(self, shape, spacing):
        self.shape, self.spacing = tuple(shape), tuple(spacing)
        self.axes = range(len(shape))
        self.cell = float(np.prod(spacing))

    def partial(self, f, axis):
        """Fourth-order central difference of a scalar field."""
        near = np.roll(f, -1, axis) - np.roll(f, 1, axis)
        far = np.roll(f, -2, axis) - np.roll(f, 2, axis)
        return (8 * near - far) / (12 * self.spacing[axis])

    def gain(self, sigma):
        """Multiplier of the Gaussian that is sampled at the voxels and has unit mass."""
        gain = 1.0
        for axis in self.axes:
            n, s = self.shape[axis], sigma / self.spacing[axis]
            x = np.arange(n)
            # The samples of all periods at once.
            copies = int(np.ceil(12 * s / n)) + 1
            taps = sum(np.exp(-0.5 * ((x + k * n) / s) ** 2) for k in range(-copies, copies + 1))
            line = np.fft.fft(taps).real
            gain = np.multiply.outer(gain, line / line[0])
        return gain

    def apply(self, gain, f):
        return np.fft.ifftn(gain * np.fft.fftn(f)).real


class Stationary:
    """vSVF: the velocity stays."""

    def __init__(self, torus, gains, shares):
        self.torus, self.gain = torus, sum(s * g for s, g in zip(shares, gains))

    def velocity(self, m, h):
        return np.stack([self.torus.apply(self.gain, c) for c in m])

    def rate(self, m, h):
        return np.zeros_like(m), np.zeros_like(h)


class Geodesic(Stationary):
    """EPDiff with one metric."""

    def force(self, m, h):
        return 0.0

    def rate(self, m, h):
        t, v = self.torus, self.velocity(m, h)
        dm = np.zeros_like(m)
        for a in t.axes:
            for j in t.axes:
                dm[a] -= t.partial(v[j] * m[a], j) + m[j] * t.partial(v[j], a)
        dh = np.zeros_like(h)
        for j in t.axes:
            for i in range(len(h)):
                dh[i] -= v[j] * t.partial(h[i], j)
        return dm + self.force(m, h), dh


class Mixed(Geodesic):
    """RDMM: the metric of the weights G * h, with its force."""

    def __init__(self, torus, gains, smoothing):
        self.torus, self.gains, self.smoothing = torus, gains, smoothing

    def parts(self, m, h):
        t = self.torus
        w = [t.apply(self.smoothing, c) for c in h]
        nu = [np.stack([t.apply(g, wi * c) for c in m]) for g, wi in zip(self.gains, w)]
        return w, nu

    def velocity(self, m, h):
        w, nu = self.parts(m, h)
        return sum(wi * n for wi, n in zip(w, nu))

    def force(self, m, h):
        t, (_, nu) = self.torus, self.parts(m, h)
        q = [t.apply(self.smoothing, (m * n).sum(0)) for n in nu]
        return np.stack([sum(q[i] * t.partial(h[i], a) for i in range(len(h))) for a in t.axes])


def runge_kutta(rate, y, tau):
    """One classical step for a tuple of arrays."""
    def at(k, c):
        return tuple(a + c * tau * b for a, b in zip(y, k))
    k1 = rate(y)
    k2 = rate(at(k1, 0.5))
    k3 = rate(at(k2, 0.5))
    k4 = rate(at(k3, 1.0))
    return tuple(a + tau / 6 * (p + 2 * q + 2 * r + s) for a, p, q, r, s in zip(y, k1, k2, k3, k4))


def evolve(model, m, h, steps):
    """States at the ends of equal steps, the start too."""
    states = [(m, h)]
    for _ in range(steps):
        states.append(runge_kutta(lambda y: model.rate(*y), states[-1], 1.0 / steps))
    return states


def interpolant(torus, field):
    """The trigonometric polynomial through the values, at any points (points, axes)."""
    shape = torus.shape
    spectrum = np.fft.fftn(field, axes=range(1, field.ndim)) / np.prod(shape)
    lengths = [n * s for n, s in zip(shape, torus.spacing)]
    waves = [2j * np.pi * np.fft.fftfreq(n, 1.0 / n) / L for n, L in zip(shape, lengths)]

    def at(points):
        value = spectrum
        # One axis after the other: the last one brings in the points.
        last = np.exp(np.multiply.outer(points[:, -1], waves[-1]))
        value = np.einsum("...k,pk->p...", value, last)
        for axis in reversed(range(len(shape) - 1)):
            factor = np.exp(np.multiply.outer(points[:, axis], waves[axis]))
            value = np.einsum("p...k,pk->p...", value, factor)
        return value.real

    return at


def characteristics(torus, velocities, backwards):
    """Displacement of the voxels along dX/dt = v(X, t), from velocities at equal times from 0 to 1.

    Backwards in time from 1 it is the one of the inverse map.
    """
    x0 = np.stack(np.meshgrid(*(np.arange(n) * s for n, s in zip(torus.shape, torus.spacing)), indexing="ij"), -1)
    x0 = x0.reshape(-1, len(torus.shape))
    order = velocities[::-1] if backwards else velocities
    flows = [interpolant(torus, v) for v in order]
    steps = (len(flows) - 1) // 2
    tau = (-1.0 if backwards else 1.0) / steps
    x = x0
    for k in range(steps):
        first, middle, last = flows[2 * k : 2 * k + 3]
        k1 = first(x)
        k2 = middle(x + 0.5 * tau * k1)
        k3 = middle(x + 0.5 * tau * k2)
        k4 = last(x + tau * k3)
        x = x + tau / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return (x - x0).T.reshape(len(torus.shape), *torus.shape)


def main(folder):
    shot = json.loads((folder / "shot.json").read_text())
    out = folder / "out"
    report = json.loads((out / "report.json").read_text())
    m = np.load(folder / "momentum.npy")
    torus = Torus(m.shape[1:], shot["spacing"])
    gains = [torus.gain(s) for s in shot["sigmas"]]
    if shot["model"] == "rdmm":
        h = np.load(folder / "preweights.npy")
        smoothing = torus.gain(shot["preweight_sigma"])
        if shot["advect"] == "weights":
            h, smoothing = np.stack([torus.apply(smoothing, c) for c in h]), np.ones(torus.shape)
        model = Mixed(torus, gains, smoothing)
    else:
        h = np.stack([np.full(torus.shape, np.sqrt(s)) for s in shot["shares"]])
        model = {"vsvf": Stationary, "lddmm": Geodesic}[shot["model"]](torus, gains, shot["shares"])

    def energy(state):
        return 0.5 * torus.cell * float((state[0] * model.velocity(*state)).sum())

    states = evolve(model, m, h, shot["steps"])
    energies = [energy(state) for state in states]
    # Maps in other time steps, about four times finer.
    fine = 2 * int(np.ceil(2 * shot["steps"]))
    velocities = [model.velocity(*state) for state in evolve(model, m, h, fine)]

    def apart(name, expected):
        found = np.load(out / f"{name}.npy")
        assert found.dtype == np.float64 and found.shape == expected.shape, (name, found.dtype, found.shape)
        return float(abs(found - expected).max() / abs(expected).max())

    def relative(name, expected):
        return abs(report[name] / expected - 1)

    drift = max(abs(e / energies[0] - 1) for e in energies)
    print(json.dumps({
        "momentum": apart("momentum", states[-1][0]),
        "preweights": apart("preweights", states[-1][1]),
        "energy_t0": relative("energy_t0", energies[0]),
        "energy_t1": relative("energy_t1", energies[-1]),
        "energy_drift": abs(report["energy_drift"] - drift),
        "inverse_displacement": apart("inverse_displacement", characteristics(torus, velocities, True)),
        "forward_displacement": apart("forward_displacement", characteristics(torus, velocities, False)),
        "largest_displacement_in_voxels": float(
            (abs(np.load(out / "inverse_displacement.npy")).reshape(len(torus.shape), -1).max(1)
             / np.array(torus.spacing)).max()),
    }))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
