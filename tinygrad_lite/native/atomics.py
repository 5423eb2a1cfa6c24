"""Words of memory that several threads read and write without a lock, by address, and calls through an address.

An address is an integer: kernels and threads pass it on without Python, and no address is in compiled code, which so
can be kept on disk. All operations are sequentially consistent; on x86 the loads of a spinning loop are plain loads.
"""

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WORD = ir.IntType(64)
ENTRY = ir.FunctionType(ir.VoidType(), [WORD, WORD, WORD])  # entry(context, start, stop)


def _word_at(builder, address):
    return builder.inttoptr(address, WORD.as_pointer())


@intrinsic
def load(typing_context, address):
    """The word at an address."""

    def generate(context, builder, signature, args):
        return builder.load_atomic(_word_at(builder, args[0]), "seq_cst", 8)

    return types.intp(types.intp), generate


@intrinsic
def store(typing_context, address, value):
    """Write the word at an address."""

    def generate(context, builder, signature, args):
        builder.store_atomic(args[1], _word_at(builder, args[0]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@intrinsic
def fetch_add(typing_context, address, value):
    """Add to the word at an address; what it held before."""

    def generate(context, builder, signature, args):
        return builder.atomic_rmw("add", _word_at(builder, args[0]), args[1], "seq_cst")

    return types.intp(types.intp, types.intp), generate


@intrinsic
def compare_swap(typing_context, address, expected, value):
    """Write value if the word at an address is as expected; whether it was."""

    def generate(context, builder, signature, args):
        found = builder.cmpxchg(_word_at(builder, args[0]), args[1], args[2], "seq_cst", "seq_cst")
        return builder.extract_value(found, 1)

    return types.boolean(types.intp, types.intp, types.intp), generate


@intrinsic
def pause(typing_context):
    """Tell the core that this thread spins: some 40 to 140 cycles on x86, in which the other hyperthread has it alone."""

    def generate(context, builder, signature, args):
        machine = llvmlite.binding.get_default_triple().split("-")[0]
        if machine == "x86_64":
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        elif machine in ("aarch64", "arm64"):
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
            hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.hint")
            builder.call(hint, [ir.Constant(ir.IntType(32), 1)])  # 1 is "yield"
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def call_entry(typing_context, entry, job, start, stop):
    """entry(job, start, stop) through its address."""

    def generate(context, builder, signature, args):
        builder.call(builder.inttoptr(args[0], ENTRY.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), generate


@intrinsic
def call_nullary(typing_context, function):
    """function() through its address, a C function of no arguments; what it returns is dropped."""

    def generate(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.intp), generate


def _write_job(context, builder, job, kernel, members, kernel_types):
    """Write a job for call_entry; the address of its entry. See `pack`."""
    fields = [kernel, ir.Constant(WORD, 0), *members]
    layout = ir.LiteralStructType([field.type for field in fields])
    job = builder.bitcast(job, layout.as_pointer())

    def place(builder, job, i):
        return builder.gep(job, [ir.Constant(ir.IntType(32), 0), ir.Constant(ir.IntType(32), i)])

    for i, field in enumerate(fields):
        builder.store(field, place(builder, job, i))

    entry = ir.Function(builder.module, ENTRY, builder.module.get_unique_name("entry"))
    entry.linkage = "internal"
    inside = ir.IRBuilder(entry.append_basic_block())
    theirs = inside.inttoptr(entry.args[0], layout.as_pointer())
    found = [inside.load(place(inside, theirs, i)) for i in range(len(fields))]
    kind = context.call_conv.get_function_type(types.none, kernel_types)
    function = inside.inttoptr(found[0], kind.as_pointer())
    arguments = [entry.args[1], entry.args[2], *found[2:]]
    status, _ = context.call_conv.call_function(inside, function, types.none, kernel_types, arguments)
    with inside.if_then(status.is_error, likely=False):
        inside.store_atomic(ir.Constant(WORD, 1), place(inside, theirs, 1), "seq_cst", 8)
    inside.ret_void()
    return builder.ptrtoint(entry, WORD)


FAILED = 8  # bytes from a job's begin to the word that becomes 1


@intrinsic
def pack(typing_context, kernel, args):
    """A job: (entry, job, failed), addresses of code and of memory on the caller's stack, for call_entry.

    kernel: the address of compiled kernel(start, stop, *args) -> None; args: a tuple of what else it takes. The entry
    reads them from the job, so that one kind of call fits every kernel. `failed` becomes 1 if a chunk fails: kernels
    raise nothing of their own, so memory has run out.
    """
    signature = types.UniTuple(types.intp, 3)(types.intp, args)

    def generate(context, builder, signature, values):
        members = [builder.extract_value(values[1], i) for i in range(len(args.types))]
        job = cgutils.alloca_once(builder, ir.LiteralStructType([WORD, WORD, *[member.type for member in members]]))
        entry = _write_job(context, builder, job, values[0], members, (types.intp, types.intp, *args.types))
        address = builder.ptrtoint(job, WORD)
        addresses = entry, address, builder.add(address, ir.Constant(WORD, FAILED))
        return context.make_tuple(builder, signature.return_type, addresses)

    return signature, generate


@intrinsic
def pack_at(typing_context, job, kernel, args):
    """The same in memory at an address, for calls to come; the entry's address. The arrays must live as long.

    The job's arrays own nothing: counting references is left to whoever keeps them.
    """
    signature = types.intp(types.intp, types.intp, args)

    def generate(context, builder, signature, values):
        members = []
        for i, kind in enumerate(args.types):
            member = builder.extract_value(values[2], i)
            if isinstance(kind, types.Array):
                array = context.make_array(kind)(context, builder, value=member)
                array.meminfo, array.parent = array.meminfo.type(None), array.parent.type(None)
                member = array._getvalue()
            members.append(member)
        job = builder.inttoptr(values[0], ir.IntType(8).as_pointer())
        return _write_job(context, builder, job, values[1], members, (types.intp, types.intp, *args.types))

    return signature, generate
