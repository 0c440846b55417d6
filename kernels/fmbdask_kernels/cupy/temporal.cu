// The fused pass, one thread a pixel; temporal.py says what it does and what it costs.

// Two counts at once: how many values are at most a, and at most b. The values are the differences d (`away` false)
// or |d - centre|. All are whole, so a saturated difference of floats is 1 or 0.
template <bool away>
__device__ __forceinline__ void count_two(
    const u32 *w, int step, int words, int pads, float centre, int a, int b, int *up_to_a, int *up_to_b)
{
    float zero = away ? RAISED + centre : 0.0f;
    float first = (away ? 1.0f : RAISED + 1.0f) + a, second = (away ? 1.0f : RAISED + 1.0f) + b;
    float ca = 0, cb = 0, da = 0, db = 0;
    for (int i = 0; i < words; i += 8) {
#pragma unroll
        for (int k = 0; k < 8; k++) {
            u32 word = w[(i + k) * step];
            float p = first_of(word), q = second_of(word);
            if (away)
                p = fabsf(p - zero), q = fabsf(q - zero);
            ca += __saturatef(first - p), cb += __saturatef(second - p);
            da += __saturatef(first - q), db += __saturatef(second - q);
        }
    }
    // the padding holds the largest difference there is
    float most = away ? fabsf(32767.0f - centre) : RAISED + 32767.0f;
    *up_to_a = (int)(ca + da) - (most < first ? pads : 0);
    *up_to_b = (int)(cb + db) - (most < second ? pads : 0);
}

// The smallest value in (low, high] up to which there are `rank` values, which must lie there. The first look is at
// `reach` beside a guess, each further one cuts what is left into three.
template <bool away>
__device__ __forceinline__ int select(
    const u32 *w, int step, int words, int pads, float centre, int rank, int low, int high, int guess, int reach,
    int *looks)
{
    bool guessed = false;
    while (high - low > 1) {
        int third = (high - low + 1) / 3, up_to_a, up_to_b;
        int a = guessed ? low + third : guess - reach - 1, b = guessed ? high - third : guess + reach;
        guessed = true;
        a = max(low + 1, min(a, high - 1));
        b = max(a, min(b, high - 1));
        count_two<away>(w, step, words, pads, centre, a, b, &up_to_a, &up_to_b);
        if (up_to_a >= rank)
            high = a;
        else if (up_to_b >= rank)
            low = a, high = b;
        else
            low = b;
        ++*looks;
    }
    return high;
}

// Running values of the first pass over the reads.
struct Moments {
    float before, shift, centre, low, high, s1, s2, slope, away, below, fall, rise;
};

__device__ __forceinline__ u32 take(Moments &a, u32 read, u32 previous, float weight)
{
    float x = raised(read), v = x - a.shift, d = x - a.before;
    a.before = x;
    a.low = fminf(a.low, x), a.high = fmaxf(a.high, x);
    a.s1 += v, a.s2 += v * v, a.slope += weight * v;
    a.away += fabsf(d - a.centre);
    a.below += __saturatef((a.centre + 1.0f) - d);
    a.fall = fminf(a.fall, d), a.rise = fmaxf(a.rise, d);
    return read - previous + BIAS;
}

// Sums of the differences beyond `reach`, which do not enter the slope.
__device__ __forceinline__ void winsorise(
    const u32 *w, int step, const Tables &t, const Offsets &o, int nx, int y, int x, float median, float reach,
    float *sums)
{
    float weighted = 0, plain = 0, inside = 0, time = 0, height = o.height[y];
    for (int i = 0; i < t.m; i++) {
        u32 word = w[i / 2 * step];
        float d = (i & 1 ? second_of(word) : first_of(word)) - RAISED;
        if (fabsf(d - median) > reach) {
            i64 at = place(i, nx, x);
            float shared = o.gradient ? o.column[at] + height * o.gradient[at] : o.column[at];
            float v = d - (shared + o.row[(i64)y * t.size + i]);
            weighted += t.slope_weight[i] * v, plain += v;
            inside += t.slope_weight[i] * t.interval[i], time += t.interval[i];
        }
    }
    sums[0] = weighted, sums[1] = plain, sums[2] = inside, sums[3] = time;
}

struct Scan {
    float rss, rate, high, low, square;
    int at, first, above, flips;
};

// Appearance of the 16 reads whose bits, the first one highest, say which are above the limit.
__device__ __forceinline__ void appear(Scan &s, u32 bits, int t, int m, u32 &state)
{
    u32 kept = t + BLOCK <= m ? 0xFFFFu : 0xFFFFu << (BLOCK - (m - t)) & 0xFFFFu;
    u32 both = state << BLOCK | (bits & 0xFFFFu);
    s.above += __popc(bits & kept);
    s.flips += __popc((both ^ both >> 1) & kept);
    if (s.first < 0 && (bits & kept))
        s.first = t + __clz((bits & kept) << 16) + 1;
    state = bits & 1u;
}

// Four differences that follow each other, without their offsets.
template <bool bent>
__device__ __forceinline__ void four(
    float4 c, const float4 *gradient, i64 at, float height, float4 row, const float *plain, float *v)
{
    if (bent) {
        float4 g = gradient[at];
        c.x += height * g.x, c.y += height * g.y, c.z += height * g.z, c.w += height * g.w;
    }
    v[0] = plain[0] - (c.x + row.x), v[1] = plain[1] - (c.y + row.y);
    v[2] = plain[2] - (c.z + row.z), v[3] = plain[3] - (c.w + row.w);
}

__device__ __forceinline__ void unpack(u32 one, u32 two, float *d)
{
    d[0] = first_of(one) - RAISED, d[1] = second_of(one) - RAISED;
    d[2] = first_of(two) - RAISED, d[3] = second_of(two) - RAISED;
}

// The step statistic of one pixel: forward with the appearance of reads above a limit, backward block by block.
template <bool bent>
__device__ __forceinline__ void scan(
    Scan &s, const u32 *w, float *kept, int step, const Tables &t, const Offsets &o, int nx, int y, int x, int r,
    float room)
{
    long own = (i64)r * t.size;
    const float4 *rows = (const float4 *)(o.row + (i64)y * t.size), *follow = (const float4 *)(t.follow + own);
    const float4 *weight = (const float4 *)(t.weight + own), *unit = (const float4 *)(t.unit + own);
    const float4 *precede = (const float4 *)(t.precede + own), *gain = (const float4 *)(t.gain + own);
    const float4 *centre = (const float4 *)(t.centre + own);
    const float4 *column = (const float4 *)o.column + x, *gradient = bent ? (const float4 *)o.gradient + x : 0;
    float height = bent ? o.height[y] : 0, p = 0, rss = 0, rate = 0;
    u32 state = 0;
    s.first = -1, s.above = s.flips = 0;
    for (int b = 0; b < t.size; b += BLOCK) {
        u32 bits = 0;
        kept[b / BLOCK * step] = p;
#pragma unroll
        for (int k = 0; k < BLOCK; k += 4) {
            int i = (b + k) / 4;
            float4 f = follow[i], g = weight[i], u = unit[i];
            float d[4], v[4], fs[4] = {f.x, f.y, f.z, f.w}, gs[4] = {g.x, g.y, g.z, g.w}, us[4] = {u.x, u.y, u.z, u.w};
            unpack(w[i * 2 * step], w[(i * 2 + 1) * step], d);
            four<bent>(column[i * nx], gradient, i * nx, height, rows[i], d, v);
#pragma unroll
            for (int l = 0; l < 4; l++) {
                room -= d[l];
                bits = __funnelshift_l(__float_as_uint(room), bits, 1);
                p = v[l] + fs[l] * p;
                rss += p * (gs[l] * p);
                rate += us[l] * v[l];
            }
        }
        appear(s, bits, b, t.m, state);
    }
    s.rate = rate / t.total[r];
    s.rss = rss - s.rate * s.rate * t.total[r];
    s.high = -1e30f, s.low = 1e30f, s.square = 0, s.at = 0;
    p = 0;
    for (int b = t.size - BLOCK; b >= 0; b -= BLOCK) {
        float again[BLOCK], q = kept[b / BLOCK * step];
#pragma unroll
        for (int k = 0; k < BLOCK; k += 4) {
            int i = (b + k) / 4;
            float4 f = follow[i];
            float d[4], v[4], fs[4] = {f.x, f.y, f.z, f.w};
            unpack(w[i * 2 * step], w[(i * 2 + 1) * step], d);
            four<bent>(column[i * nx], gradient, i * nx, height, rows[i], d, v);
#pragma unroll
            for (int l = 0; l < 4; l++)
                again[k + l] = q = v[l] + fs[l] * q;
        }
#pragma unroll
        for (int k = BLOCK - 4; k >= 0; k -= 4) {
            int i = (b + k) / 4;
            float4 f = precede[i], g = gain[i], c = centre[i];
            float fs[4] = {f.x, f.y, f.z, f.w}, gs[4] = {g.x, g.y, g.z, g.w}, cs[4] = {c.x, c.y, c.z, c.w};
#pragma unroll
            for (int l = 3; l >= 0; l--) {
                p = again[k + l] + fs[l] * p;
                float z = p * gs[l] - s.rate * cs[l];
                s.at = z >= s.high ? b + k + l : s.at;
                s.high = fmaxf(z, s.high), s.low = fminf(z, s.low);
                s.square += z * z;
            }
        }
    }
}

extern "C" __global__ void temporal(
    const u16 *__restrict__ data, const unsigned char *__restrict__ usable, const float *__restrict__ saturation,
    const int *__restrict__ frames, const float *__restrict__ tables, const float *__restrict__ prior,
    const float *__restrict__ offsets, u32 *__restrict__ spill, float *__restrict__ out, int *__restrict__ masked, int *seen,
    int n, int bins, int ny, int nx, int variance_rows, int with_gradient, float appearance_sigma)
{
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= nx || y >= ny)
        return;
    Tables t = tables_of(tables, n, bins);
    Offsets o = offsets_of(offsets, t.size, ny, nx, with_gradient);
    Prior known = prior_of(prior, nx, variance_rows, y);
    int m = t.m, words = t.size / 2, pads = t.size - m, looks = 0, looks_away = 0;
    i64 pixels = (i64)ny * nx, pixel = (i64)y * nx + x;

    // scratch of a thread: every word beside that of its neighbours, no other thread looks at it
    int step = blockDim.x * blockDim.y, thread = threadIdx.y * blockDim.x + threadIdx.x;
#ifdef SPILL
    u32 *w = spill + ((i64)blockIdx.y * gridDim.x + blockIdx.x) * step * (words + t.size / BLOCK) + thread;
#else
    EXTERN_SHARED(u32, scratch);
    u32 *w = scratch + thread;
#endif
    float *kept = (float *)(w + words * step);

    // first pass: the only one that reads the exposure
    const u16 *at = data + pixel;
    u32 first = at[0], last = at[m * pixels], previous = first;
    Moments a;
    a.before = a.low = a.high = raised(first);
    a.shift = raised(at[n / 2 * pixels]);
    a.centre = floorf((float)((int)last - (int)first) / m + 0.5f);
    a.s1 = raised(first) - a.shift, a.s2 = a.s1 * a.s1, a.slope = a.s1 * t.start;
    a.away = a.below = 0, a.fall = 1e30f, a.rise = -1e30f;
    float peak = -1;
    int peak_block = 0, whole = m / BLOCK * BLOCK;
    for (int b = 0; b < whole; b += BLOCK) {
        u32 reads[BLOCK];
#pragma unroll
        for (int k = 0; k < BLOCK; k++)
            reads[k] = at[(b + k + 1) * pixels];
#pragma unroll
        for (int k = 0; k < BLOCK; k += 4) {
            float4 c = ((const float4 *)t.rise)[(b + k) / 4];
            u32 one = take(a, reads[k], previous, c.x), two = take(a, reads[k + 1], reads[k], c.y);
            u32 three = take(a, reads[k + 2], reads[k + 1], c.z), four = take(a, reads[k + 3], reads[k + 2], c.w);
            w[(b + k) / 2 * step] = __byte_perm(one, two, 0x5410u);
            w[((b + k) / 2 + 1) * step] = __byte_perm(three, four, 0x5410u);
            previous = reads[k + 3];
        }
        float most = fmaxf(a.rise, -a.fall);
        peak_block = most > peak ? b : peak_block;
        peak = fmaxf(most, peak);
    }
    for (int b = whole; b < t.size; b += 2) {
        u32 pair[2] = {0xFFFFu, 0xFFFFu};
        for (int k = 0; k < 2; k++)
            if (b + k < m) {
                u32 read = at[(b + k + 1) * pixels];
                pair[k] = take(a, read, previous, t.rise[b + k]);
                previous = read;
            }
        w[b / 2 * step] = __byte_perm(pair[0], pair[1], 0x5410u);
    }
    float most = fmaxf(a.rise, -a.fall);
    peak_block = most > peak ? whole : peak_block;
    peak = fmaxf(most, peak);

    float maximum = a.high - 8388608.0f;
    bool doubtful = maximum >= saturation[pixel] || peak > WRAP;
    if (usable)
        for (int i = 0; i < n; i++)
            doubtful |= !usable[i * pixels + pixel];
    if (doubtful) {
        masked[1 + atomicAdd(masked, 1)] = (int)pixel;
        if (seen)
            seen[pixel] = 0;
        return;
    }
    int peak_at = peak_block;
    for (int i = peak_block; i < min(peak_block + BLOCK, m); i++) {
        u32 word = w[i / 2 * step];
        float d = (i & 1 ? second_of(word) : first_of(word)) - RAISED;
        if (fabsf(d) == peak) {
            peak_at = i;
            break;
        }
    }

    // median and deviation, exact
    int rank = (m + 1) / 2, centre = (int)a.centre, below = (int)a.below;
    float s = a.away / m, root = sqrtf((float)m);
    int reach = (int)(s * 1.001f) + 3, low = centre - reach, high = centre + reach;
    if (below >= rank)
        high = centre;
    else
        low = centre;
    int guess = (int)floorf(a.centre + 1.0f + (rank - below) * s * 3.1416f / m);
    int median = select<false>(
        w, step, words, pads, 0, rank, low, high, guess, 1 + (int)(6.7f * s / sqrtf(root * m)), &looks);
    int mad = select<true>(
        w, step, words, pads, (float)median, rank, -1, (int)(2.002f * s) + 2, (int)(0.845f * s + 0.5f),
        1 + (int)(1.6f * s / root), &looks_away);

    // slope, and the bin of rho that it leads to
    float height = o.height[y], slope = a.slope;
    slope -= o.column_slope[x] + height * o.gradient_slope[x] + o.row_slope[y];
    float sigma = WINSOR_REACH * fmaxf((float)mad, 1.0f);
    if (fmaxf(a.rise - median, median - a.fall) > sigma) {
        float sums[4];
        winsorise(w, step, t, o, nx, y, x, (float)median, sigma, sums);
        if (0 < sums[3] && sums[3] < 0.999f * m) {
            float rise = (float)((int)last - (int)first) -
                         (o.column_total[x] + height * o.gradient_total[x] + o.row_total[y]);
            slope = slope - sums[0] + sums[2] * (rise - sums[1]) / (m - sums[3]);
        }
    }
    int r = rho_bin(slope, known.poisson[x], known.rho_variance[x], t.edges, bins - 1);

    // reads above a limit, and the strongest step
    float jump = appearance_sigma * MAD_SIGMA * fmaxf((float)mad, 1.0f);
    int limit = min((int)first + (int)fminf(jump, 65536.0f), 65535);
    Scan step_scan;
    float room = (float)(limit - (int)first);
    if (with_gradient)
        scan<true>(step_scan, w, kept, step, t, o, nx, y, x, r, room);
    else
        scan<false>(step_scan, w, kept, step, t, o, nx, y, x, r, room);
    float noise, ignored, rss = step_scan.rss, best = step_scan.high;
    float variance = known.variance[x], dof = known.dof[x], noisy = known.noisy[x];
    float down = standardise(step_scan.low, rss, m, variance, dof, noisy, &ignored);
    float up = standardise(best, rss, m, variance, dof, noisy, &noise);
    int best_at = min(step_scan.at, m - 1);
    float mean = a.s1 / n;

    float *to = out + pixel;
    to[SLOPE * pixels] = slope;
    to[MINIMUM * pixels] = a.low - 8388608.0f;
    to[MAXIMUM * pixels] = maximum;
    to[MEDIAN * pixels] = (float)median;
    to[MAD * pixels] = (float)mad;
    to[LARGEST * pixels] = peak;
    to[LARGEST_FRAME * pixels] = (float)frames[peak_at + 1];
    to[FIRST * pixels] = step_scan.first < 0 ? -1.0f : (float)frames[step_scan.first];
    to[PERSISTENCE * pixels] = (float)step_scan.above;
    to[MAX_INTENSITY * pixels] = a.high - raised(first);
    to[VARIANCE * pixels] = fmaxf(a.s2 / n - mean * mean, 0.0f);
    to[TRANSITIONS * pixels] = (float)step_scan.flips;
    to[STEP_FRAME * pixels] = (float)frames[best_at + 1];
    to[STEP_AMPLITUDE * pixels] = best * t.scale[(i64)r * t.size + best_at];
    to[STEP_SIGNIFICANCE * pixels] = up;
    to[STEP_R2 * pixels] = best * best / fmaxf(rss, 1e-6f);
    to[DROP_SIGNIFICANCE * pixels] = down;
    to[READ_VARIANCE * pixels] = rss / (m - 1);
    to[NOISE * pixels] = sqrtf(noise);
    to[ROUGHNESS * pixels] = step_scan.square / m;
    to[RATE * pixels] = step_scan.rate;
    to[RHO_BIN * pixels] = (float)r;
    to[READS * pixels] = (float)n;
    if (seen)
        seen[pixel] = looks | looks_away << 8;
}
