// What the kernels share. Plain C++ beside CUDA's own words, so that a compiler without CUDA can build it for tests.

typedef unsigned int u32;
typedef unsigned short u16;
typedef long long i64;

#ifndef EXTERN_SHARED
#define EXTERN_SHARED(type, name) extern __shared__ type name[]
#endif

// Differences that are solved again together, going backward; tables are padded to whole blocks of them.
#define BLOCK 16
// A word of scratch holds two differences, each above BIAS; as floats they stand above RAISED, where they are exact.
#define BIAS 32768
#define RAISED (8388608.0f + 32768.0f)
// Differences beyond this are left to the masked kernel, as on the CPU.
#define WRAP 16000

__device__ __forceinline__ float raised(u32 value) { return __uint_as_float(0x4B000000u | value); }
__device__ __forceinline__ float first_of(u32 word) { return __uint_as_float(__byte_perm(word, 0x4B00u, 0x5410u)); }
__device__ __forceinline__ float second_of(u32 word) { return __uint_as_float(__byte_perm(word, 0x4B00u, 0x5432u)); }

__device__ __forceinline__ float root(float a) { return sqrtf(a); }
__device__ __forceinline__ double root(double a) { return sqrt(a); }
__device__ __forceinline__ float log_of_one_and(float a) { return log1pf(a); }
__device__ __forceinline__ double log_of_one_and(double a) { return log1p(a); }

// Gaussian quantile of a Student t variate (Wallace 1959, Ann. Math. Stat. 30 1121); see noise.py.
template <class T> __device__ __forceinline__ T wallace(T t, T nu, T log)
{
    T size = (8 * nu + 1) / (8 * nu + 3) * root(nu * log);
    return t >= 0 ? size : -size;
}

template <class T> __device__ __forceinline__ T gaussian_equivalent(T t, T nu)
{
    T u = t * t / nu;
    if (t * t <= T(0.05f) * nu)
        return wallace(t, nu, u * (1 - u * (T(0.5f) - u * (T(1.0f / 3) - u * T(0.25f)))));
    return wallace(t, nu, log_of_one_and(u));
}

// Significance of a raw statistic with the moderated variance (Smyth 2004, SAGMB 3 3); see noise.py.
template <class T>
__device__ __forceinline__ T standardise(T raw, T rss, int m, float variance, float dof, float noisy, T *noise)
{
    T nu = (T)(m > 3 ? m - 2 : 1), left = rss - raw * raw;
    T own = (left > T(1e-3f) ? left : T(1e-3f)) / nu;
    if (own > T(noisy * variance)) {
        *noise = own;
        return gaussian_equivalent(raw / root(own), nu);
    }
    *noise = (nu * own + dof * variance) / (nu + dof);
    return gaussian_equivalent(raw / root(*noise), nu + dof);
}

__device__ __forceinline__ int rho_bin(float slope, float poisson, float rho_variance, const float *edges, int count)
{
    float rho = slope * poisson / rho_variance;
    int r = 0;
    while (r < count && rho > edges[r])
        r++;
    return r;
}

// Factors of the covariance for each bin of rho, and weights; upload.py lays them out.
struct Tables {
    int bins, n, m, size;
    const float *follow, *weight, *unit, *precede, *gain, *centre;  // (bins, size) each
    const float *rise, *slope_weight, *interval;                    // (size) each
    const float *scale, *total, *edges, *rho;                       // (bins, size), (bins), (bins - 1), (bins)
    float start;                                                    // weight of the first read in the slope
};

__device__ __forceinline__ Tables tables_of(const float *at, int n, int bins)
{
    Tables t;
    t.bins = bins, t.n = n, t.m = n - 1;
    t.size = (n - 1 + BLOCK - 1) / BLOCK * BLOCK;
    i64 all = (i64)bins * t.size;
    t.follow = at, t.weight = at + all, t.unit = at + 2 * all;
    t.precede = at + 3 * all, t.gain = at + 4 * all, t.centre = at + 5 * all, t.scale = at + 6 * all;
    at += 7 * all;
    t.rise = at, t.slope_weight = at + t.size, t.interval = at + 2 * t.size;
    t.total = at + 3 * t.size, t.edges = t.total + bins, t.rho = t.edges + bins - 1;
    t.start = t.rho[bins];
    return t;
}

// What is known of the noise of each column, and the read variance of each pixel or column.
struct Prior {
    const float *dof, *noisy, *poisson, *rho_variance, *variance;
};

__device__ __forceinline__ Prior prior_of(const float *at, int nx, int rows, int y)
{
    Prior p = {at, at + nx, at + 2 * nx, at + 3 * nx, at + 4 * nx + (i64)(y < rows ? y : rows - 1) * nx};
    return p;
}

// Offsets as differences from read to read, with their slopes and sums; no gradient: a null pointer.
struct Offsets {
    const float *column, *gradient;  // (size / 4, nx, 4) each: four differences of a column at a time
    const float *row, *height;       // (ny, size), (ny)
    const float *column_slope, *gradient_slope, *column_total, *gradient_total, *row_slope, *row_total;
};

__device__ __forceinline__ Offsets offsets_of(const float *at, int size, int ny, int nx, int with_gradient)
{
    Offsets o;
    i64 all = (i64)size * nx;
    o.row = at, at += (i64)ny * size;
    o.column = at, at += all;
    o.gradient = with_gradient ? at : 0, at += with_gradient ? all : 0;
    o.column_slope = at, o.gradient_slope = at + nx, o.column_total = at + 2 * nx, o.gradient_total = at + 3 * nx;
    at += 4 * nx;
    o.height = at, o.row_slope = at + ny, o.row_total = at + 2 * ny;
    return o;
}

__device__ __forceinline__ i64 place(int i, int nx, int x) { return ((i64)(i >> 2) * nx + x) * 4 + (i & 3); }
