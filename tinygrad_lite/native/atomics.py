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


@intrinsic
def pack(typing_context, kernel, args):
    """A job: (entry, job, failed), addresses of code and of memory on the caller's stack, for call_entry.

    kernel: the address of compiled kernel(start, stop, *args) -> None; args: a tuple of what else it takes. The entry
    reads them from the job, so that one kind of call fits every kernel. `failed` becomes 1 if a chunk fails: kernels
    raise nothing of their own, so memory has run out.
    """
    kernel_types = (types.intp, types.intp, *args.types)
    signature = types.UniTuple(types.intp, 3)(types.intp, args)

    def generate(context, builder, signature, values):
        kernel, members = values[0], [builder.extract_value(values[1], i) for i in range(len(args.types))]
        fields = [kernel, ir.Constant(WORD, 0), *members]
        layout = ir.LiteralStructType([field.type for field in fields])

        def place(builder, job, i):
            return builder.gep(job, [ir.Constant(ir.IntType(32), 0), ir.Constant(ir.IntType(32), i)])

        job = cgutils.alloca_once(builder, layout)
        for i, field in enumerate(fields):
            builder.store(field, place(builder, job, i))

        name = builder.module.get_unique_name("entry")
        entry = ir.Function(builder.module, ENTRY, name)
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

        addresses = (
            builder.ptrtoint(entry, WORD),
            builder.ptrtoint(job, WORD),
            builder.ptrtoint(place(builder, job, 1), WORD),
        )
        return context.make_tuple(builder, signature.return_type, addresses)

    return signature, generate
