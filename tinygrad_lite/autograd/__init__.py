"""Reverse-mode differentiation: what is recorded (node.py), how (record.py), and the walk back (walk.py)."""
