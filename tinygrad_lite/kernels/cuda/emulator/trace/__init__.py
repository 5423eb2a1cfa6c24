"""What a kernel does, warp operation by warp operation: `tgl cuda trace`.

record.py      the events of one block, written down while a kernel runs (../runtime/trace.cpp)
steps.py       the lanes' events put together to the steps of a warp
shared_map.py  shared memory at each barrier: who wrote which bytes
source.py      names of a kernel's parameters and shared arrays, and the text of its lines
values.py      numbers, rows of them, and matrices of the tensor cores, as text
report.py      all of it as text
examples.py    each kernel of the library on a small input
own.py         a kernel of one's own on arrays that are described in a word
"""

from .record import Recording, recording

__all__ = ["Recording", "recording"]
