// Best rate of every pixel without steps and its error, one thread a pixel, by the steps of rates.py. DATA is the type
// of a read.

extern "C" __global__ void rates(
    const DATA *__restrict__ data, const float *__restrict__ planes, const float *__restrict__ tables,
    const float *__restrict__ prior, const float *__restrict__ offsets, const float *__restrict__ parts,
    float *__restrict__ out, int n, int bins, int ny, int nx, int variance_rows, int with_gradient, float excess)
{
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= nx || y >= ny)
        return;
    i64 pixels = (i64)ny * nx, pixel = (i64)y * nx + x;
    const float *at = planes + pixel;
    float bin = at[RHO_BIN * pixels];
    if (!(bin >= 0)) {
        out[pixel] = out[pixels + pixel] = NAN_F;
        return;
    }
    Tables t = tables_of(tables, n, bins);
    int r = (int)bin;
    float plain = at[SLOPE * pixels], reach = WINSOR_REACH * fmaxf(at[MAD * pixels], 1.0f);
    if (r < MIXED && at[LARGEST * pixels] + fabsf(at[MEDIAN * pixels]) > reach) {
        // the slope may leave an outlying difference out: take it from all reads
        Offsets o = offsets_of(offsets, t.size, ny, nx, with_gradient);
        double first = (double)data[pixel], own = 0;
        for (int i = 1; i < n; i++)
            own += (double)t.rise[i - 1] * ((double)data[i * pixels + pixel] - first);
        float shared = o.column_slope[x] + o.height[y] * o.gradient_slope[x];
        plain = (float)(own - (double)(shared + o.row_slope[y]));
    }
    // read (3, bins) and photon (3, bins), then poisson (bins) and white (bins)
    float a0 = parts[r], b0 = parts[bins + r], both0 = parts[2 * bins + r];
    float a1 = parts[3 * bins + r], b1 = parts[4 * bins + r], both1 = parts[5 * bins + r];
    float quanta = parts[6 * bins + r], whites = parts[7 * bins + r];
    Prior known = prior_of(prior, nx, variance_rows, y);
    float best = at[RATE * pixels], own = known.variance[x] / excess, free = (float)(n - 2), dof = known.dof[x];
    float light = fmaxf(best, 0.0f) * known.poisson[x], photons = light * quanta, white = own * whites;
    float told = fmaxf(at[READ_VARIANCE * pixels] * free - photons, 0.0f) / whites;
    float share = white / (white + photons), counts = free * share * share;
    float pooled = fmaxf((counts * told + dof * own) / (counts + dof), LEAST * own);
    told = share > TELLING && told > known.noisy[x] * own ? told : pooled;
    float b = told * b0 + light * b1, both = told * both0 + light * both1;
    float apart = fmaxf(told * a0 + light * a1 + b - (both + both), 1e-6f * b);
    share = fminf(fmaxf((b - both) / apart, 0.0f), r < MIXED ? 1.0f : 0.0f);
    out[pixel] = best + share * (plain - best);
    out[pixels + pixel] = sqrtf(b - share * (2 * (b - both) - share * apart));
}
