"""Gradients proved right: analytic against finite differences, and every disagreement explained.

problem.py     the function under test as a map between flat float64 vectors, and its recorded twin
tolerance.py   step sizes and tolerances, derived from the element type's eps
noise.py       how noisy a function's values are, measured
classify.py    why two figures disagree: a wrong rule, round-off, truncation, a kink
report.py      the result, its findings, and how they read
check.py       gradcheck and gradgradcheck, entry by entry
directions.py  the same along random directions
narrow.py      gradients of float32 and narrower inputs, held to float64
registry.py    every case of every op

The two functions load the rest when they are called: a tenth of the time that importing the library would take.
"""

__all__ = ["Finding", "GradcheckError", "GradcheckResult", "InputReport", "gradcheck", "gradgradcheck"]


def gradcheck(fn, inputs, *, eps=None, atol=None, rtol=None, mode="full", order=1, raise_exception=True, seed=0):
    """Compare the gradients of fn with central differences, and explain every disagreement.

    fn        takes the inputs, returns a float Tensor or a tuple of them
    inputs    a Tensor or a sequence; those that require a gradient are checked, anything else is passed on. A
              float32, float16 or bfloat16 input is checked twice: its formulas run in float64 on the same values
              against differences, and its own gradient against that
    eps       the step, the same for every element; by default chosen per element from its scale
    atol, rtol   |analytic - numeric| <= atol + rtol * |numeric|; by default derived from the type's eps (tolerance.py)
    mode      "full": the whole Jacobian, one difference quotient per input element and one backward pass per output
              element. "fast": slopes along random directions, two passes an input however large; a failure is
              traced to its element by halving the direction
    order     2 checks the gradient of the gradient as well
    seed      of the random directions and weights

    Returns a GradcheckResult, true if nothing is wrong. Raises GradcheckError if something is and raise_exception;
    ValueError if no input requires a gradient.
    """
    from .check import check_first

    return check_first(fn, inputs, order, raise_exception, eps=eps, atol=atol, rtol=rtol, mode=mode, seed=seed)


def gradgradcheck(fn, inputs, *, eps=None, atol=None, rtol=None, mode="full", raise_exception=True, seed=0):
    """Compare second derivatives with differences of the first: gradcheck of the function (inputs, v) -> v J.

    The inputs reported after fn's own are v, one an output. Arguments and result as for gradcheck. It takes the
    first order for granted: check that before.
    """
    from .check import check_second

    return check_second(fn, inputs, raise_exception, eps=eps, atol=atol, rtol=rtol, mode=mode, seed=seed)


def __getattr__(name):
    if name in __all__:
        from . import report

        return getattr(report, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
