"""opslib: an operations playbook you can run."""

from opslib import _startup as _startup

__version__ = "0.1.0"
