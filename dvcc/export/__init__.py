"""QP maps for other programs. A format is one file and one line here."""

from dvcc.export.npz import write_npz

FORMATS = {"npz": write_npz}

__all__ = ["FORMATS", "write_npz"]
