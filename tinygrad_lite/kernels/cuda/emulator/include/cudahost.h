// cudahost.h - run CUDA C++ kernels on the CPU: one fiber per CUDA thread, blocks in a loop. x86-64/aarch64-linux, g++ -std=c++17.
// Single OS thread per process by design (static __shared__ is then one copy; parallelise with processes / xdist).
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cstdarg>
#include <csetjmp>
#include <algorithm>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>
#include <sys/mman.h>
#define CUDAHOST 1
#ifndef CUDAHOST_ARCH
#define CUDAHOST_ARCH 900
#endif
#define __CUDA_ARCH__ CUDAHOST_ARCH           /* kernels may test it; host-only code must test CUDAHOST */
#define __global__ __attribute__((noinline))
#define __device__ __attribute__((unused))
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __constant__ static
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static                     /* static storage, one block runs at a time */
#define DYNAMIC_SHARED(T, name) T* name = (T*)cudahost::S.dyn
struct dim3 { unsigned x, y, z; constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {} };
struct uint3 { unsigned x, y, z; };
#define CH_V(T, n, al2, al4) struct alignas(al2) n##2 { T x, y; }; struct n##3 { T x, y, z; }; struct alignas(al4) n##4 { T x, y, z, w; }; \
  static inline n##2 make_##n##2(T x, T y) { return {x, y}; } static inline n##4 make_##n##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CH_V(float, float, 8, 16) CH_V(int, int, 8, 16) CH_V(unsigned short, ushort, 4, 8)
struct alignas(8) uint2 { unsigned x, y; }; struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) double2 { double x, y; }; struct alignas(16) ulonglong2 { unsigned long long x, y; };
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

namespace cudahost {
// ---------------------------------------------------------------- fibers
extern "C" void cudahost_switch(void** save, void* load);
#ifdef CUDAHOST_MAIN
#if defined(__x86_64__)
asm(".text\n.globl cudahost_switch\n.hidden cudahost_switch\n.type cudahost_switch,@function\ncudahost_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n.size cudahost_switch,.-cudahost_switch\n");
#else
#error "add an aarch64 switch or a ucontext fallback"
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
extern "C" void __sanitizer_start_switch_fiber(void** fake, const void* bottom, size_t size);
extern "C" void __sanitizer_finish_switch_fiber(void* fake, const void** bottom_old, size_t* size_old);
extern "C" void __asan_unpoison_memory_region(void const volatile* addr, size_t size);
#endif
enum State : uint8_t { NEW, READY, AT_BLOCK, AT_WARP, DONE };
struct AsyncCopy { void* dst; const void* src; unsigned n, zfill; int group; };
struct Fiber {
  void* sp; char* stack; void* fake; uint3 tid; unsigned lin, lane, warp; State st; const char* op; int line; unsigned mask;
  const void* in; void* out; unsigned barid, barcnt; unsigned bepoch, wepoch; int cpgroup; std::vector<AsyncCopy> cps;
};
struct Bar { unsigned arrived = 0, need = 0; };
struct Meet { unsigned mask, here; const char* op; int line; };
typedef void (*Tramp)(void** args);
struct Sched {
  Fiber* cur; Fiber* F; unsigned n, done; void* main_sp; void* main_fake; const void* main_bot; size_t main_size;
  Tramp fn; void** args; unsigned char* dyn; unsigned dynbytes; dim3 grid, block; uint3 bid; unsigned blocklin, launch;
  Bar bars[16]; Meet meets[32][8]; std::vector<char*> pool; std::vector<Fiber> store; std::vector<unsigned> order; jmp_buf abort; char err[512];
  // options (set from Python): order 0 ascending, 1 descending, 2 random; lazy = delay cp.async to its wait; poison = byte pattern
  int rt; int opt_order, opt_lazy, opt_poison, opt_partial; uint64_t rng; size_t stack_bytes; unsigned long long nswitch, nwarpop;
};
#ifdef CUDAHOST_MAIN
Sched S = {};
#else
extern Sched S;
#endif
static const size_t STACK = 256 * 1024;
__attribute__((noreturn)) void fail(const char* fmt, ...);
void block_barrier(unsigned id, unsigned count, const char* op, int line);
typedef void (*Coll)(Fiber** lanes, unsigned mask);
void collective(unsigned mask, const char* op, int line, Coll fn, const void* in, void* out);
#ifdef CUDAHOST_MAIN
static void resume(Fiber* f) {          // scheduler -> fiber
  S.cur = f; S.nswitch++; S.rt = 0;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&S.main_fake, f->stack, STACK);
#endif
  cudahost_switch(&S.main_sp, f->sp);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(S.main_fake, nullptr, nullptr);
#endif
}
static void park() {                    // fiber -> scheduler
  Fiber* f = S.cur; S.rt = 1;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(f->st == DONE ? nullptr : &f->fake, S.main_bot, S.main_size);
#endif
  cudahost_switch(&f->sp, S.main_sp);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(f->fake, &S.main_bot, &S.main_size);
#endif
}
static void entry() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &S.main_bot, &S.main_size);
#endif
  S.fn(S.args); S.rt = 1; S.cur->st = DONE; S.done++; park(); abort();
}
static void start(Fiber* f) {
  if (S.pool.empty()) {
    char* p = (char*)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    mprotect(p, 4096, PROT_NONE); S.pool.push_back(p);       // guard page: stack overflow faults instead of corrupting
  }
  f->stack = S.pool.back(); S.pool.pop_back();
  void** sp = (void**)(f->stack + STACK - 64); *--sp = nullptr; *--sp = (void*)entry; for (int i = 0; i < 6; i++) *--sp = nullptr;
  f->sp = sp; f->fake = nullptr;
}
__attribute__((noreturn)) void fail(const char* fmt, ...) {
  va_list ap; va_start(ap, fmt); int k = 0;
  if (S.cur) k = snprintf(S.err, sizeof S.err, "block (%u,%u,%u) thread (%u,%u,%u): ", S.bid.x, S.bid.y, S.bid.z, S.cur->tid.x, S.cur->tid.y, S.cur->tid.z);
  vsnprintf(S.err + k, sizeof S.err - k, fmt, ap); va_end(ap); longjmp(S.abort, 1);
}
void block_barrier(unsigned id, unsigned count, const char* op, int line) {
  S.rt = 1; struct Out { ~Out() { S.rt = 0; } } out_; Fiber* f = S.cur; Bar& b = S.bars[id]; f->op = op; f->line = line; f->barid = id; f->barcnt = count;
  if (b.arrived && b.need != count) fail("%s line %d: barrier %u used with counts %u and %u", op, line, id, b.need, count);
  b.need = count;
  if (++b.arrived == count) {
    b.arrived = 0;
    for (unsigned i = 0; i < S.n; i++) { Fiber& g = S.F[i]; if (&g != f && g.st == AT_BLOCK && g.barid == id) {
      if (g.line != line) fail("divergent barrier: line %d and line %d", g.line, line);
      g.st = READY; g.bepoch++; } }
    f->bepoch++;
    // the last arriver keeps running in order mode 0; otherwise it queues behind the others
    if (S.opt_order) { f->st = READY; park(); }
  } else { f->st = AT_BLOCK; park(); }
}
void collective(unsigned mask, const char* op, int line, Coll fn, const void* in, void* out) {
  S.rt = 1; struct Out { ~Out() { S.rt = 0; } } out_; Fiber* f = S.cur; S.nwarpop++; f->op = op; f->line = line; f->mask = mask; f->in = in; f->out = out;
  if (!(mask >> f->lane & 1)) fail("%s line %d: calling lane %u not in mask %08x", op, line, f->lane, mask);
  unsigned base = f->warp * 32; Meet *m = nullptr, *e = nullptr;       // in-flight meeting of this warp with this mask (several only for sub-warp masks)
  for (Meet& c : S.meets[f->warp]) { if (c.here && c.mask == mask) { m = &c; break; } if (!c.here && !e) e = &c; }
  if (!m) {
    if (!e) fail("%s line %d: more than %d sub-warp operations in flight", op, line, (int)(sizeof S.meets[0] / sizeof(Meet)));
    for (Meet& c : S.meets[f->warp]) if (c.here & mask) fail("warp divergence: %s line %d mask %08x overlaps %s line %d mask %08x", op, line, mask, c.op, c.line, c.mask);
    unsigned live = S.n - base >= 32 ? ~0u : (1u << (S.n - base)) - 1;
    if (mask & ~live & (S.opt_partial ? 0u : ~0u)) fail("%s line %d: mask %08x names lanes outside the block", op, line, mask);
    m = e; *m = {mask, 0, op, line};
  } else if (m->line != line || (m->op != op && strcmp(m->op, op))) fail("warp divergence: lane %u at %s line %d, others at %s line %d", f->lane, op, line, m->op, m->line);
  m->here |= 1u << f->lane;
  if (m->here == mask) {
    Fiber* L[32]; for (unsigned l = 0; l < 32; l++) L[l] = mask >> l & 1 ? &S.F[base + l] : nullptr;
    m->here = 0;
    if (fn) fn(L, mask);
    for (unsigned l = 0; l < 32; l++) if (L[l]) { L[l]->wepoch++; L[l]->st = READY; }
    if (S.opt_order) park();        // order 0: the last lane to arrive runs on
  } else { f->st = AT_WARP; park(); }
}
extern "C" void cudahost_block_begin() __attribute__((weak));
static void run_block() {
  S.n = S.block.x * S.block.y * S.block.z; S.done = 0; S.store.resize(S.n); S.F = S.store.data(); S.order.resize(S.n);
  for (auto& b : S.bars) b = Bar();
  memset(S.meets, 0, sizeof S.meets);
  for (unsigned i = 0; i < S.n; i++) { Fiber& f = S.F[i];
    f.tid = {i % S.block.x, i / S.block.x % S.block.y, i / (S.block.x * S.block.y)}; f.lin = i; f.lane = i & 31; f.warp = i >> 5;
    f.st = NEW; f.op = ""; f.line = 0; f.bepoch = f.wepoch = 0; f.cpgroup = 0; f.cps.clear(); f.stack = nullptr; S.order[i] = i; }
  if (S.opt_order == 1) std::reverse(S.order.begin(), S.order.end());
  if (S.dynbytes) memset(S.dyn, S.opt_poison, S.dynbytes);
  if (cudahost_block_begin) cudahost_block_begin();
  while (S.done < S.n) {
    bool progress = false;
    if (S.opt_order == 2) for (unsigned i = S.n - 1; i > 0; i--) { S.rng = S.rng * 6364136223846793005ull + 1442695040888963407ull; std::swap(S.order[i], S.order[(S.rng >> 33) % (i + 1)]); }
    // orders 0 and 1: a warp runs until all its lanes wait at a block barrier before the next warp starts, i.e. the largest skew
    // between warps that the barriers allow; order 2: every ready fiber one step, in a fresh random order each round
    for (unsigned k = 0; k < S.n;) {
      unsigned e = k + 1; if (S.opt_order < 2) while (e < S.n && S.F[S.order[e]].warp == S.F[S.order[k]].warp) e++;
      bool more = true;
      while (more) { more = false;
        for (unsigned j = k; j < e; j++) { Fiber* f = &S.F[S.order[j]];
          if (f->st == NEW) { start(f); f->st = READY; }
          if (f->st == READY) { progress = true; more = S.opt_order < 2; resume(f); if (f->st == DONE && f->stack) { S.pool.push_back(f->stack); f->stack = nullptr; } } } }
      k = e;
    }
    if (!progress) { unsigned w = 0; while (S.F[w].st == DONE) w++; S.cur = &S.F[w];
      fail("deadlock: waits at %s line %d, %u of %u threads have exited", S.cur->op, S.cur->line, S.done, S.n); }
  }
}
extern "C" __attribute__((visibility("default"))) void cudahost_options(int order, int lazy, int poison, unsigned long long seed) { S.opt_order = order; S.opt_lazy = lazy; S.opt_poison = poison; S.rng = seed * 2 + 1; }
extern "C" __attribute__((visibility("default"))) void cudahost_stats(unsigned long long* o) { o[0] = S.nswitch; o[1] = S.nwarpop; S.nswitch = S.nwarpop = 0; }
extern "C" __attribute__((visibility("default"))) const char* cudahost_launch(Tramp fn, const unsigned* g, const unsigned* b, unsigned smem, void** args) {
  S.fn = fn; S.args = args; S.grid = dim3(g[0], g[1], g[2]); S.block = dim3(b[0], b[1], b[2]); S.dynbytes = smem; S.err[0] = 0; S.cur = nullptr; S.launch++;
  if (b[0] * b[1] * b[2] > 1024 || b[0] * b[1] * b[2] == 0 || b[2] > 64 || smem > 227 * 1024 || g[1] > 65535 || g[2] > 65535 || !g[0] || !g[1] || !g[2]) return "cudahost: CUDA_ERROR_INVALID_VALUE launch configuration";
  void* raw = nullptr; if (smem) { if (posix_memalign(&raw, 1024, smem)) return "oom"; } S.dyn = (unsigned char*)raw;   // exact size: ASan sees overruns
  unsigned nb = g[0] * g[1] * g[2]; bool bad = false;
  for (unsigned k = 0; k < nb && !bad; k++) { unsigned i = S.opt_order == 1 ? nb - 1 - k : k; S.bid = {i % g[0], i / g[0] % g[1], i / (g[0] * g[1])}; S.blocklin = i;
    if (setjmp(S.abort)) { bad = true; for (unsigned q = 0; q < S.n; q++) if (S.F[q].stack) { S.pool.push_back(S.F[q].stack); S.F[q].stack = nullptr; } } else run_block(); }
  free(raw); return bad ? S.err : nullptr;
}
#endif
// ---------------------------------------------------------------- kernel table: name, trampoline, parameter sizes
template <class... A, size_t... I> __attribute__((no_sanitize("thread"))) static void call_(void (*f)(A...), void** a, std::index_sequence<I...>) { f(*(std::remove_reference_t<A>*)a[I]...); }
template <auto F> struct K; template <class... A, void (*F)(A...)> struct K<F> {
  __attribute__((no_sanitize("thread"))) static void tramp(void** a) { call_(F, a, std::index_sequence_for<A...>()); }
  static constexpr int n = sizeof...(A); static const char* sig() { static char s[n * 4 + 4]; int k = 0; ((k += snprintf(s + k, sizeof s - k, "%c%zu,", std::is_pointer_v<A> ? 'p' : std::is_floating_point_v<A> ? 'f' : std::is_integral_v<A> ? 'i' : 's', sizeof(A))), ...); s[k] = 0; return s; } };
struct KernelEntry { const char* name; Tramp tramp; const char* (*sig)(); };
}
#define threadIdx (cudahost::S.cur->tid)
#define blockIdx (cudahost::S.bid)
#define blockDim (cudahost::S.block)
#define gridDim (cudahost::S.grid)
static constexpr int warpSize = 32;
#define __syncthreads() cudahost::block_barrier(0, cudahost::S.n, "__syncthreads", __LINE__)
#define __syncwarp(...) cudahost::syncwarp_(__LINE__, ##__VA_ARGS__)
#define __threadfence() ((void)0)
#define __threadfence_block() ((void)0)
#define __nanosleep(x) ((void)0)
#define __trap() cudahost::fail("__trap line %d", __LINE__)
// ---------------------------------------------------------------- warp collectives (T up to 16 bytes)
namespace cudahost {
static inline void syncwarp_(int line, unsigned m = ~0u) { collective(m, "__syncwarp", line, nullptr, nullptr, nullptr); }
template <class T> struct ShflIn { T v; int arg, width; };
enum { IDX, XOR, UP, DOWN };
template <class T, int M> static void shfl_coll(Fiber** L, unsigned mask) {
  for (int l = 0; l < 32; l++) if (L[l]) { auto* p = (const ShflIn<T>*)L[l]->in; int w = p->width, lo = l & ~(w - 1), hi = lo + w, s;
    if (M == IDX) s = lo + (p->arg & (w - 1)); else if (M == XOR) { s = l ^ p->arg; if (s >= hi) s = l; } else if (M == UP) { s = l - p->arg; if (s < lo) s = l; } else { s = l + p->arg; if (s >= hi) s = l; }
    if (s > 31 || !L[s]) fail("shfl reads lane %d, which is not in mask %08x", s, mask);
    *(T*)L[l]->out = ((const ShflIn<T>*)L[s]->in)->v; }
}
template <int M, class T> static inline T shfl(const char* op, int line, unsigned m, T v, int a, int w = 32) { ShflIn<T> in{v, a, w}; T out; collective(m, op, line, shfl_coll<T, M>, &in, &out); return out; }
static inline void ballot_coll(Fiber** L, unsigned) { unsigned r = 0; for (int l = 0; l < 32; l++) if (L[l] && *(const int*)L[l]->in) r |= 1u << l; for (int l = 0; l < 32; l++) if (L[l]) *(unsigned*)L[l]->out = r; }
static inline unsigned ballot(int line, unsigned m, int p) { unsigned o; collective(m, "__ballot_sync", line, ballot_coll, &p, &o); return o; }
}
#define __shfl_sync(m, ...) cudahost::shfl<cudahost::IDX>("__shfl_sync", __LINE__, m, __VA_ARGS__)
#define __shfl_xor_sync(m, ...) cudahost::shfl<cudahost::XOR>("__shfl_xor_sync", __LINE__, m, __VA_ARGS__)
#define __shfl_up_sync(m, ...) cudahost::shfl<cudahost::UP>("__shfl_up_sync", __LINE__, m, __VA_ARGS__)
#define __shfl_down_sync(m, ...) cudahost::shfl<cudahost::DOWN>("__shfl_down_sync", __LINE__, m, __VA_ARGS__)
#define __ballot_sync(m, p) cudahost::ballot(__LINE__, m, (p) ? 1 : 0)
#define __any_sync(m, p) (cudahost::ballot(__LINE__, m, (p) ? 1 : 0) != 0)
#define __all_sync(m, p) (cudahost::ballot(__LINE__, m, (p) ? 1 : 0) == (m))
#define __activemask() (~0u)
// ---------------------------------------------------------------- scalar intrinsics
#define CH_I static inline __attribute__((always_inline))
template <class A, class B> CH_I std::common_type_t<A, B> min(A a, B b) { return b < a ? b : a; }
template <class A, class B> CH_I std::common_type_t<A, B> max(A a, B b) { return a < b ? b : a; }
CH_I float rsqrtf(float x) { return 1.0f / sqrtf(x); }
#define __expf(x) expf(x)      /* glibc declares __expf etc. itself: macros, not functions */
#define __logf(x) logf(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __powf(x, y) powf(x, y)
CH_I float __fdividef(float a, float b) { return a / b; }
CH_I float __frcp_rn(float a) { return 1.0f / a; }
CH_I float __saturatef(float a) { return a < 0 ? 0 : a > 1 ? 1 : a; }
CH_I float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
CH_I unsigned __float_as_uint(float f) { unsigned u; memcpy(&u, &f, 4); return u; }
CH_I int __float_as_int(float f) { int u; memcpy(&u, &f, 4); return u; }
CH_I float __uint_as_float(unsigned u) { float f; memcpy(&f, &u, 4); return f; }
CH_I float __int_as_float(int u) { float f; memcpy(&f, &u, 4); return f; }
CH_I int __popc(unsigned x) { return __builtin_popcount(x); }
CH_I int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
CH_I int __ffs(int x) { return __builtin_ffs(x); }
CH_I unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
#define CH_LD(n) template <class T> CH_I T n(const T* p) { return *p; }
#define CH_ST(n) template <class T> CH_I void n(T* p, T v) { *p = v; }
CH_LD(__ldg) CH_LD(__ldcs) CH_LD(__ldcg) CH_LD(__ldca) CH_ST(__stcs) CH_ST(__stcg) CH_ST(__stwt)
extern "C" void cudahost_atomic(const void* p, unsigned n) __attribute__((weak));
#define CH_A(name, expr) template <class T> __attribute__((no_sanitize("thread"), noinline)) static T name(T* p, std::common_type_t<T> v) { if (cudahost_atomic) cudahost_atomic(p, sizeof(T)); T o = *p; *p = (expr); return o; }
CH_A(atomicAdd, (T)(o + v)) CH_A(atomicMax, o < v ? v : o) CH_A(atomicMin, v < o ? v : o) CH_A(atomicExch, v) CH_A(atomicOr, o | v) CH_A(atomicAnd, o & v)
template <class T> __attribute__((no_sanitize("thread"), noinline)) static T atomicCAS(T* p, std::common_type_t<T> c, std::common_type_t<T> v) { if (cudahost_atomic) cudahost_atomic(p, sizeof(T)); T o = *p; if (o == c) *p = v; return o; }
CH_I unsigned atomicInc(unsigned* p, unsigned m) { unsigned o = *p; *p = o >= m ? 0 : o + 1; return o; }
#define clock64() 0ll
// ---------------------------------------------------------------- bfloat16
struct __nv_bfloat16 { uint16_t u; __nv_bfloat16() = default; __nv_bfloat16(float f) { unsigned x = __float_as_uint(f); u = (x & 0x7fffffff) > 0x7f800000 ? 0x7fff : (x + 0x7fff + (x >> 16 & 1)) >> 16; } operator float() const { return __uint_as_float((unsigned)u << 16); } };
struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; };
typedef __nv_bfloat16 nv_bfloat16; typedef __nv_bfloat162 nv_bfloat162;
CH_I __nv_bfloat16 __float2bfloat16(float f) { return __nv_bfloat16(f); }
CH_I __nv_bfloat16 __float2bfloat16_rn(float f) { return __nv_bfloat16(f); }
CH_I float __bfloat162float(__nv_bfloat16 b) { return (float)b; }
CH_I __nv_bfloat162 __floats2bfloat162_rn(float a, float b) { return {__nv_bfloat16(a), __nv_bfloat16(b)}; }
CH_I __nv_bfloat162 __float22bfloat162_rn(float2 a) { return {__nv_bfloat16(a.x), __nv_bfloat16(a.y)}; }
CH_I float2 __bfloat1622float2(__nv_bfloat162 b) { return {(float)b.x, (float)b.y}; }
CH_I unsigned short __bfloat16_as_ushort(__nv_bfloat16 b) { return b.u; }
CH_I __nv_bfloat16 __ushort_as_bfloat16(unsigned short u) { __nv_bfloat16 b; b.u = u; return b; }
// ---------------------------------------------------------------- float16
struct __half { _Float16 v; __half() = default; __half(float f) : v((_Float16)f) {} operator float() const { return (float)v; } };
typedef __half half;
CH_I half __float2half_rn(float f) { return half(f); }
CH_I half __float2half(float f) { return half(f); }
CH_I float __half2float(half h) { return (float)h; }
CH_I unsigned short __half_as_ushort(half h) { unsigned short u; memcpy(&u, &h, 2); return u; }
CH_I half __ushort_as_half(unsigned short u) { half h; memcpy(&h, &u, 2); return h; }
