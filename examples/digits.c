/* Classifies handwritten digits from C, with a model that Stepwell has made a shared library of:

       lower --to so -o digits_mlp.so examples/digits_mlp.onnx
       cc -I. -o digits examples/digits.c ./digits_mlp.so
       ./digits < images.f32

   Reads images of 8 x 8 grey levels from 0 to 1, as floats; prints one class a line. */
#include <stdio.h>
#include <stdlib.h>

#include "digits_mlp.h"

enum { PIXELS = 64, CLASSES = 10, MOST = 1000 };

static float images[MOST][PIXELS], logits[MOST][CLASSES];

int main(void) {
    const int64_t count = (int64_t)fread(images, sizeof images[0], MOST, stdin);
    digits_mlp_model *model = digits_mlp_new();
    if (!model) {
        fputs("this machine cannot run the model\n", stderr);
        return EXIT_FAILURE;
    }
    digits_mlp_set_threads(2);
    if (digits_mlp_run(model, (digits_mlp_sizes){.batch = count}, images[0], logits[0])) {
        fprintf(stderr, "%s\n", digits_mlp_error(model));
        digits_mlp_free(model);
        return EXIT_FAILURE;
    }
    for (int64_t image = 0; image < count; image++) {
        int best = 0;
        for (int class = 1; class < CLASSES; class++)
            if (logits[image][class] > logits[image][best]) best = class;
        printf("%d\n", best);
    }
    digits_mlp_free(model);
    return EXIT_SUCCESS;
}
