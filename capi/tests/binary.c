/* A binary model: two classes, a threshold, probabilities. The argument is a model of one output channel, whose score
 * is 10 · (red + green + blue) − 15 for colours from 0 to 1, and whose class 1 is called "bright". */
#include "fullconv.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define CHECK(condition)                                                                         \
    do {                                                                                         \
        if (!(condition)) {                                                                      \
            printf("line %d: %s; last error \"%s\"\n", __LINE__, #condition,                     \
                   fullconv_last_error());                                                       \
            return 1;                                                                            \
        }                                                                                        \
    } while (0)

#define OK FULLCONV_STATUS_OK

int main(int argc, char **argv) {
    fullconv_model *model, *strict;
    fullconv_device *device;
    fullconv_segmenter *segmenter, *stricter;
    /* Black, white, and two greys whose scores are about −0.3 and 0.3. */
    const uint8_t greys[4] = {0, 255, 125, 130};
    uint8_t rgba[16], labels[4];
    float probabilities[8];

    CHECK(argc > 1);
    CHECK(fullconv_model_read(argv[1], &model) == OK);
    CHECK(fullconv_model_class_count(model) == 2);
    CHECK(strcmp(fullconv_model_class_name(model, 0), "background") == 0);
    CHECK(strcmp(fullconv_model_class_name(model, 1), "bright") == 0);
    CHECK(fullconv_model_threshold(model) == 0.5f);
    CHECK(fullconv_model_with_threshold(model, 0.9f, &strict) == OK);
    CHECK(fullconv_model_threshold(strict) == 0.9f);
    CHECK(fullconv_model_threshold(model) == 0.5f);

    CHECK(fullconv_device_open("cpu", NULL, &device) == OK);
    CHECK(fullconv_segmenter_new(device, model, &segmenter) == OK);
    CHECK(fullconv_segmenter_new(device, strict, &stricter) == OK);
    for (int i = 0; i < 4; i++) {
        memset(rgba + 4 * i, greys[i], 4);
    }
    CHECK(fullconv_segment(segmenter, rgba, 2, 2, 0, labels, 4) == OK);
    CHECK(labels[0] == 0 && labels[1] == 1 && labels[2] == 0 && labels[3] == 1);
    CHECK(fullconv_segment(stricter, rgba, 2, 2, 0, labels, 4) == OK);
    CHECK(labels[0] == 0 && labels[1] == 1 && labels[2] == 0 && labels[3] == 0);
    CHECK(fullconv_probabilities(segmenter, rgba, 2, 2, 0, probabilities, 8) == OK);
    for (int i = 0; i < 4; i++) {
        double expected = 1 / (1 + exp(15 - 30 * greys[i] / 255.0));
        CHECK(fabs(probabilities[4 + i] - expected) < 1e-5);
        CHECK(fabs(probabilities[i] - (1 - expected)) < 1e-5);
    }

    fullconv_segmenter_free(segmenter);
    fullconv_segmenter_free(stricter);
    fullconv_device_free(device);
    fullconv_model_free(model);
    fullconv_model_free(strict);
    printf("right\n");
    return 0;
}
