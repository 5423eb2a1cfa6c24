// Dynamic shared memory, loads and stores with a hint to the caches, atomics.
#pragma once

namespace emulator {
extern unsigned char* dynamic_shared;
NOT_CHECKED inline void* dynamic_shared_memory() { return dynamic_shared; }

#ifdef EMULATOR_CHECKS
void check_atomic(const void* address, unsigned bytes, const void* called_from);
void check_fence();
#else
inline void check_fence() {}
inline void check_atomic(const void*, unsigned, const void*) {}
#endif
}  // namespace emulator

// Threads take turns, so that every write is seen at once, in every block.
inline void __threadfence() { emulator::check_fence(); }
inline void __threadfence_block() {}
inline void __threadfence_system() { emulator::check_fence(); }

// T* name: the bytes that the launch asked for, aligned to 1024.
#define DYNAMIC_SHARED(T, name) T* name = (T*)emulator::dynamic_shared_memory()

#define EMULATOR_LOAD(name) template <class T> __forceinline__ T name(const T* p) { return *p; }
#define EMULATOR_STORE(name) template <class T> __forceinline__ void name(T* p, T value) { *p = value; }
EMULATOR_LOAD(__ldg)
EMULATOR_LOAD(__ldca)
EMULATOR_LOAD(__ldcg)
EMULATOR_LOAD(__ldcs)
EMULATOR_LOAD(__ldcv)
EMULATOR_LOAD(__ldlu)
EMULATOR_STORE(__stwb)
EMULATOR_STORE(__stcg)
EMULATOR_STORE(__stcs)
EMULATOR_STORE(__stwt)
#undef EMULATOR_LOAD
#undef EMULATOR_STORE

// Atomics: threads take turns, so plain arithmetic is one. They return what was there.
#define EMULATOR_ATOMIC(name, NEW)                                                                 \
  template <class T> NOT_CHECKED inline T name(T* p, std::common_type_t<T> value) {                \
    emulator::check_atomic(p, sizeof(T), __builtin_return_address(0));                             \
    T old = *p;                                                                                    \
    *p = (NEW);                                                                                    \
    return old;                                                                                    \
  }
EMULATOR_ATOMIC(atomicAdd, T(old + value))
EMULATOR_ATOMIC(atomicSub, T(old - value))
EMULATOR_ATOMIC(atomicMax, old < value ? value : old)
EMULATOR_ATOMIC(atomicMin, value < old ? value : old)
EMULATOR_ATOMIC(atomicAnd, T(old & value))
EMULATOR_ATOMIC(atomicOr, T(old | value))
EMULATOR_ATOMIC(atomicXor, T(old ^ value))
EMULATOR_ATOMIC(atomicExch, value)
EMULATOR_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
EMULATOR_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1)
#undef EMULATOR_ATOMIC

template <class T> NOT_CHECKED inline T atomicCAS(T* p, std::common_type_t<T> expected, std::common_type_t<T> value) {
  emulator::check_atomic(p, sizeof(T), __builtin_return_address(0));
  T old = *p;
  if (old == expected) *p = value;
  return old;
}
