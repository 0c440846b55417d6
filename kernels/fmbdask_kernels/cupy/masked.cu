// The features of pixels that need a mask, or of data that are not uint16: one thread a pixel, in double, by the steps
// of masked.py. DATA is the type of a read, WHOLE says whether it is a whole number.

// Column k of the scratch of a thread: every number beside that of its neighbours.
#define A(k, i) work[((i64)(k) * n + (i)) * threads + thread]
enum { VALUE, CORRECTED, OTHER, WEIGHT, LINK, UNIT, SCALED, WHERE };

// The k-th smallest of the first `size` values of OTHER, k = (size + 1) / 2 (Hoare 1961, Commun. ACM 4 321).
__device__ __forceinline__ double lower_median(double *work, int size, int n, int threads, int thread)
{
    int k = (size + 1) / 2 - 1, left = 0, right = size - 1;
    while (left < right) {
        double pivot = A(OTHER, (left + right) / 2);
        int i = left, j = right;
        while (i <= j) {
            while (A(OTHER, i) < pivot)
                i++;
            while (A(OTHER, j) > pivot)
                j--;
            if (i <= j) {
                double swapped = A(OTHER, i);
                A(OTHER, i) = A(OTHER, j);
                A(OTHER, j) = swapped;
                i++, j--;
            }
        }
        if (k <= j)
            right = j;
        else if (k >= i)
            left = i;
        else
            break;
    }
    return A(OTHER, k);
}

// Covariance model of the difference between reads a and b; covariance.py says what these are.
struct Timing {
    double interval, read, rate, read_off, rate_off;
};

__device__ __forceinline__ Timing timing(const double *pattern, int n, int a, int b)
{
    const double *mean = pattern, *weighted = pattern + n, *share = pattern + 2 * n;
    Timing t = {
        mean[b] - mean[a], share[a] + share[b], weighted[a] + weighted[b] - 2 * mean[a], -share[b],
        mean[b] - weighted[b]};
    return t;
}

extern "C" __global__ void masked(
    const DATA *__restrict__ data, const unsigned char *__restrict__ usable, const float *__restrict__ saturation,
    const int *__restrict__ frames, const double *__restrict__ pattern, const float *__restrict__ tables,
    const float *__restrict__ prior, const float *__restrict__ offsets, const int *__restrict__ list,
    double *__restrict__ work, float *__restrict__ out, int n, int bins, int ny, int nx, int variance_rows,
    int with_gradient, float appearance_sigma)
{
    int threads = gridDim.x * blockDim.x, thread = blockIdx.x * blockDim.x + threadIdx.x;
    i64 pixels = (i64)ny * nx;
    Tables t = tables_of(tables, n, bins);
    Offsets o = offsets_of(offsets, t.size, ny, nx, with_gradient);
    i64 count = list ? list[0] : pixels;
    for (i64 p = thread; p < count; p += threads) {
        int pixel = list ? list[1 + p] : (int)p, y = pixel / nx, x = pixel % nx;
        float *to = out + pixel;
        // reads from the first full one on are not used, nor the average before it that may hold a part of it
        int below = n, used = 0;
        for (int i = 0; i < n; i++)
            if ((double)data[i * pixels + pixel] >= saturation[pixel]) {
                below = i > 0 && pattern[2 * n + i - 1] < 1 ? i - 1 : i;
                break;
            }
        double total = 0;
        for (int i = 0; i < below; i++) {
            double read = (double)data[i * pixels + pixel];
            if (i > 0) {
                i64 at = place(i - 1, nx, x);
                float own = o.column[at];
                if (with_gradient)
                    own += o.height[y] * o.gradient[at];
                total += own + o.row[(i64)y * t.size + i - 1];
            }
            if (isfinite(read) && (!usable || usable[i * pixels + pixel])) {
                A(VALUE, used) = read, A(CORRECTED, used) = read - total, A(WHERE, used) = i;
                used++;
            }
        }
        for (int k = 0; k < COUNT; k++)
            to[k * pixels] = NAN_F;
        to[READS * pixels] = (float)used;
        if (used < 4)
            continue;
        // median and deviation of differences without a gap
        int m = used - 1, close = 0, peak_at = 0;
        double peak = -1;
        for (int i = 0; i < m; i++)
            if (A(WHERE, i + 1) - A(WHERE, i) == 1) {
                double v = A(VALUE, i + 1) - A(VALUE, i);
                A(OTHER, close) = v;
                close++;
                if (fabs(v) > peak)
                    peak = fabs(v), peak_at = i;
            }
        if (close == 0)
            continue;
        double median = lower_median(work, close, n, threads, thread);
        for (int i = 0; i < close; i++)
            A(OTHER, i) = fabs(A(OTHER, i) - median);
        double mad = lower_median(work, close, n, threads, thread);
        double least = WHOLE ? 1.0 : 1e-6, sigma = MAD_SIGMA_D * (mad > least ? mad : least);
        double jump = appearance_sigma * sigma, limit = A(VALUE, 0) + (WHOLE ? floor(jump) : jump);
        // the reads themselves
        double start = A(VALUE, 0), low = start, high = start, sum = 0, square = 0;
        int first = -1, above = 0, flips = 0;
        bool before = start > limit;
        for (int i = 0; i < used; i++) {
            double v = A(VALUE, i);
            bool now = v > limit;
            low = v < low ? v : low, high = v > high ? v : high;
            sum += v - start, square += (v - start) * (v - start);
            above += now, flips += now != before;
            first = now && first < 0 ? frames[(int)A(WHERE, i)] : first;
            before = now;
        }
        // least squares; differences beyond the reach are replaced by the mean of the others
        double centre = 0, power = 0, reach = WINSOR_D * sigma;
        for (int i = 0; i < used; i++)
            centre += pattern[(int)A(WHERE, i)];
        centre /= used;
        for (int i = 0; i < used; i++) {
            double away = pattern[(int)A(WHERE, i)] - centre;
            power += away * away;
        }
        double suffix = 0, weighted = 0, inside = 0, held = 0, time = 0;
        for (int i = m - 1; i >= 0; i--) {
            int a = (int)A(WHERE, i), b = (int)A(WHERE, i + 1);
            suffix += (pattern[b] - centre) / power;
            double d = A(CORRECTED, i + 1) - A(CORRECTED, i), interval = pattern[b] - pattern[a];
            if (fabs(A(VALUE, i + 1) - A(VALUE, i) - median * (b - a)) <= reach)
                weighted += suffix * d, held += d, time += interval;
            else
                inside += suffix * interval;
        }
        double slope = weighted + (time > 0 ? inside * held / time : 0.0);
        int r = rho_bin((float)slope, prior[2 * nx + x], prior[3 * nx + x], t.edges, bins - 1);
        // factors of the covariance of these differences
        double rho = t.rho[r], information, unit = 0, weight = 0, link = 0;
        for (int i = 0; i < m; i++) {
            Timing own = timing(pattern, n, (int)A(WHERE, i), (int)A(WHERE, i + 1));
            weight = 1 / (own.read + rho * own.rate - link * link * weight);
            unit = (own.interval + link * unit) * weight;
            link = i < m - 1 ? -(own.read_off + rho * own.rate_off) : 0.0;
            A(WEIGHT, i) = weight, A(LINK, i) = link, A(UNIT, i) = unit;
        }
        information = 0;
        for (int i = m - 1; i >= 0; i--) {
            Timing own = timing(pattern, n, (int)A(WHERE, i), (int)A(WHERE, i + 1));
            unit = i < m - 1 ? A(UNIT, i) + A(LINK, i) * A(WEIGHT, i) * unit : A(UNIT, i);
            A(UNIT, i) = unit;
            information += unit * own.interval;
        }
        double back = 0;
        for (int i = m - 1; i >= 0; i--) {
            Timing own = timing(pattern, n, (int)A(WHERE, i), (int)A(WHERE, i + 1));
            double diagonal = own.read + rho * own.rate;
            back = i < m - 1 ? diagonal - A(LINK, i) * A(LINK, i) / back : diagonal;
            double inverse = 1 / (1 / A(WEIGHT, i) + back - diagonal);
            double left = inverse - A(UNIT, i) * A(UNIT, i) / information;
            A(SCALED, i) = left > 1e-9 * inverse ? 1 / sqrt(left) : 0.0;
        }
        // solve, going forward and backward
        double q = 0, rss = 0, rate = 0, solved = 0;
        for (int i = 0; i < m; i++) {
            double d = A(CORRECTED, i + 1) - A(CORRECTED, i), pivot = d + (i > 0 ? A(LINK, i - 1) : 0.0) * q;
            q = pivot * A(WEIGHT, i);
            A(OTHER, i) = q;
            rss += pivot * q;
        }
        for (int i = m - 1; i >= 0; i--) {
            solved = i < m - 1 ? A(OTHER, i) + A(LINK, i) * A(WEIGHT, i) * solved : A(OTHER, i);
            A(OTHER, i) = solved;
            rate += solved * (pattern[(int)A(WHERE, i + 1)] - pattern[(int)A(WHERE, i)]);
        }
        rate /= information;
        rss -= rate * rate * information;
        double best = -1e30, worst = 1e30, squares = 0, noise, ignored;
        int best_at = 0;
        for (int i = 0; i < m; i++) {
            double z = (A(OTHER, i) - rate * A(UNIT, i)) * A(SCALED, i);
            squares += z * z;
            if (z > best)
                best = z, best_at = i;
            worst = z < worst ? z : worst;
        }
        float variance = prior[4 * nx + (i64)(y < variance_rows ? y : variance_rows - 1) * nx + x];
        float dof = prior[x], noisy = prior[nx + x];
        double mean = sum / used, spread = square / used - mean * mean;
        to[SLOPE * pixels] = (float)slope;
        to[MINIMUM * pixels] = (float)low;
        to[MAXIMUM * pixels] = (float)high;
        to[MEDIAN * pixels] = (float)median;
        to[MAD * pixels] = (float)mad;
        to[LARGEST * pixels] = (float)peak;
        to[LARGEST_FRAME * pixels] = (float)frames[(int)A(WHERE, peak_at + 1)];
        to[FIRST * pixels] = (float)first;
        to[PERSISTENCE * pixels] = (float)above;
        to[MAX_INTENSITY * pixels] = (float)(high - start);
        to[VARIANCE * pixels] = (float)(spread > 0 ? spread : 0.0);
        to[TRANSITIONS * pixels] = (float)flips;
        to[STEP_FRAME * pixels] = (float)frames[(int)A(WHERE, best_at + 1)];
        to[STEP_AMPLITUDE * pixels] = (float)(best * A(SCALED, best_at));
        to[STEP_SIGNIFICANCE * pixels] = (float)standardise(best, rss, m, variance, dof, noisy, &noise);
        to[STEP_R2 * pixels] = (float)(best * best / (rss > 1e-6 ? rss : 1e-6));
        to[DROP_SIGNIFICANCE * pixels] = (float)standardise(worst, rss, m, variance, dof, noisy, &ignored);
        to[READ_VARIANCE * pixels] = (float)(rss / (m - 1));
        to[NOISE * pixels] = (float)sqrt(noise);
        to[ROUGHNESS * pixels] = (float)(squares / m);
        to[RATE * pixels] = (float)rate;
        to[RHO_BIN * pixels] = (float)r;
    }
}
