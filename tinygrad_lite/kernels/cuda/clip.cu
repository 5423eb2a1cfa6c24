// The gradient's norm and the factor that clips it, without the host: one thread's work.
#include "gpu.cuh"

// norm = sqrt(squares) / loss_scale; coefficient = min(1, max_norm / (norm + 1e-6)) / loss_scale, PyTorch's. NaN or
// infinity in the gradients gives NaN for both, which tells the update to change nothing. max_norm 0: never clip.
__global__ void __launch_bounds__(1) clip_coefficient(
    float* __restrict__ norm, float* __restrict__ coefficient, const double* __restrict__ squares, const float* __restrict__ loss_scale,
    float max_norm) {
  const double length = sqrt(*squares) / *loss_scale;
  const double clipped = max_norm > 0.f ? fmin(1.0, max_norm / (length + 1e-6)) : 1.0;
  const double bad = length - length;  // 0, or NaN
  *norm = (float)length;
  *coefficient = (float)(clipped / *loss_scale + bad);
}
