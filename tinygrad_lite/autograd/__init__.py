"""Reverse-mode differentiation: what is recorded (node.py, keep.py), how (record.py), and the walk back (walk.py)."""
