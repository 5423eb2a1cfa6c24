// A kernel that does nothing: what a launch costs.
__global__ void nothing() {}
