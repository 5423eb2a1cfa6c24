// CUDA C for a CPU: all that a kernel may use without including it. gpu.cuh takes these headers where no CUDA compiler
// is at work. They declare; ../runtime/ holds what need not be compiled again with every kernel.
#pragma once
#include "language.h"
#include "vectors.h"
#include "threads.h"
#include "barriers.h"
#include "warp.h"
#include "memory.h"
#include "mathematics.h"
#include "bits.h"
#include "bfloat16.h"
#include "float16.h"
#include "kernel_table.h"
