"""Audits of face classifiers: does this model treat people equally, and how sure are we?"""

__version__ = "0.1.0"
