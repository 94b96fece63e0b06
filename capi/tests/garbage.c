/* Every mistake that a caller can make: each gives a status and a message, none crashes. */
#include "fullconv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int wrong = 0;

#define EXPECT(condition)                                                                        \
    do {                                                                                         \
        if (!(condition)) {                                                                      \
            printf("line %d: %s; last error \"%s\"\n", __LINE__, #condition,                     \
                   fullconv_last_error());                                                       \
            wrong = 1;                                                                           \
        }                                                                                        \
    } while (0)

/* Checks that `call` returns `expected`, with a message that contains `part`. */
#define FAILS(expected, part, call)                                                              \
    do {                                                                                         \
        fullconv_status found = (call);                                                          \
        EXPECT(found == (expected));                                                             \
        EXPECT(strstr(fullconv_last_error(), (part)) != NULL);                                   \
    } while (0)

#define INVALID FULLCONV_STATUS_INVALID_ARGUMENT
#define WORKS(call) FAILS(FULLCONV_STATUS_OK, "", call); EXPECT(fullconv_last_error()[0] == 0)

/* Programs keep their numbers when the library is replaced by a later one. */
static void statuses(void) {
    EXPECT(FULLCONV_STATUS_OK == 0);
    EXPECT(FULLCONV_STATUS_DEVICE == 11);
    EXPECT(FULLCONV_STATUS_INTERNAL == 12);
    EXPECT(FULLCONV_STATUS_DEVICE_LOST == 13);
}

static void models(const char *path) {
    fullconv_model *model = (fullconv_model *)&wrong;
    FAILS(INVALID, "path is null", fullconv_model_read(NULL, &model));
    EXPECT(model == NULL);
    FAILS(INVALID, "handle is null", fullconv_model_read(path, NULL));
    FAILS(INVALID, "UTF-8", fullconv_model_read("\xff\xfe.safetensors", &model));
    FAILS(FULLCONV_STATUS_IO, "no/such", fullconv_model_read("no/such.safetensors", &model));
    FAILS(FULLCONV_STATUS_IO, "", fullconv_model_read("", &model));
    FAILS(INVALID, "bytes is null", fullconv_model_from_bytes(NULL, 0, &model));
    FAILS(INVALID, "no memory has", fullconv_model_from_bytes((const uint8_t *)path, (size_t)-1, &model));
    FAILS(FULLCONV_STATUS_MODEL_FILE, "", fullconv_model_from_bytes((const uint8_t *)"", 0, &model));
    FAILS(FULLCONV_STATUS_MODEL_FILE, "", fullconv_model_from_bytes((const uint8_t *)path, strlen(path), &model));
    FAILS(INVALID, "handle is null", fullconv_model_demo(NULL));
    EXPECT(model == NULL);
    EXPECT(fullconv_model_class_count(NULL) == 0);
    EXPECT(fullconv_model_class_name(NULL, 0) == NULL);
    EXPECT(fullconv_model_class_count((fullconv_model *)&wrong) == 0);
    WORKS(fullconv_model_free(NULL));
    FAILS(INVALID, "not a model", fullconv_model_free((fullconv_model *)&wrong));
    FAILS(INVALID, "not a model", fullconv_model_free((fullconv_model *)(size_t)-1));

    WORKS(fullconv_model_demo(&model));
    EXPECT(fullconv_model_class_count(model) == 11);
    EXPECT(strcmp(fullconv_model_class_name(model, 0), "Sky") == 0);
    EXPECT(fullconv_model_class_name(model, 11) == NULL);
    EXPECT(strstr(fullconv_last_error(), "class 11") != NULL);
    uint8_t rgb[3] = {0, 0, 0};
    WORKS(fullconv_model_class_colour(model, 0, rgb));
    EXPECT(rgb[0] == 128 && rgb[1] == 128 && rgb[2] == 128);
    FAILS(INVALID, "rgb is null", fullconv_model_class_colour(model, 0, NULL));
    FAILS(INVALID, "class 11", fullconv_model_class_colour(model, 11, rgb));
    fullconv_model *changed = (fullconv_model *)&wrong;
    EXPECT(fullconv_model_threshold(model) == 0 && fullconv_model_threshold(NULL) == 0);
    FAILS(FULLCONV_STATUS_REQUEST, "binary", fullconv_model_with_threshold(model, 0.5f, &changed));
    EXPECT(changed == NULL);
    FAILS(INVALID, "model is null", fullconv_model_with_threshold(NULL, 0.5f, &changed));
    FAILS(INVALID, "handle is null", fullconv_model_with_threshold(model, 0.5f, NULL));
    WORKS(fullconv_model_free(model));
    FAILS(INVALID, "freed before", fullconv_model_free(model));
    EXPECT(fullconv_model_class_count(model) == 0);
}

static void devices(void) {
    fullconv_device *device = (fullconv_device *)&wrong;
    FAILS(FULLCONV_STATUS_REQUEST, "teapot", fullconv_device_open("teapot", NULL, &device));
    EXPECT(device == NULL);
    FAILS(INVALID, "UTF-8", fullconv_device_open("\xc3", NULL, &device));
    FAILS(INVALID, "UTF-8", fullconv_device_open(NULL, "\xc3", &device));
    FAILS(INVALID, "handle is null", fullconv_device_open("cpu", NULL, NULL));
    FAILS(INVALID, "adapters", fullconv_device_open("cpu", "some", &device));
    EXPECT(fullconv_device_name(NULL) == NULL);
    WORKS(fullconv_device_open("cpu", "", &device));
    EXPECT(strcmp(fullconv_device_name(device), "CPU reference") == 0);
    /* A handle of another kind. */
    EXPECT(fullconv_model_class_count((fullconv_model *)device) == 0);
    FAILS(INVALID, "not a segmenter", fullconv_segmenter_free((fullconv_segmenter *)device));
    WORKS(fullconv_device_free(device));
    FAILS(INVALID, "freed before", fullconv_device_free(device));
}

static void segmenters(const char *path) {
    fullconv_model *model;
    fullconv_device *device;
    fullconv_segmenter *segmenter = (fullconv_segmenter *)&wrong;
    WORKS(fullconv_model_read(path, &model));
    EXPECT(strcmp(fullconv_model_class_name(model, 0), "class 0") == 0);
    WORKS(fullconv_device_open("cpu", NULL, &device));
    FAILS(INVALID, "device is null", fullconv_segmenter_new(NULL, model, &segmenter));
    EXPECT(segmenter == NULL);
    FAILS(INVALID, "model is null", fullconv_segmenter_new(device, NULL, &segmenter));
    FAILS(INVALID, "not a device", fullconv_segmenter_new((fullconv_device *)model, model, &segmenter));
    FAILS(INVALID, "handle is null", fullconv_segmenter_new(device, model, NULL));
    WORKS(fullconv_segmenter_new(device, model, &segmenter));
    /* The segmenter outlives its model and its device. */
    WORKS(fullconv_model_free(model));
    WORKS(fullconv_device_free(device));

    /* 3 × 2 pixels, rows 5 pixels apart; exact allocations, for memcheck to see accesses past the end. */
    size_t bytes = 5 * 4 + 3 * 4;
    uint8_t *rgba = malloc(bytes), *labels = malloc(6);
    uint8_t *packed = malloc(24), *again = malloc(6);
    for (size_t i = 0; i < bytes; i++) {
        rgba[i] = (uint8_t)(7 * i);
    }
    memcpy(packed, rgba, 12);
    memcpy(packed + 12, rgba + 20, 12);
    memset(labels, 255, 6);
    FAILS(INVALID, "segmenter is null", fullconv_segment(NULL, rgba, 3, 2, 20, labels, 6));
    FAILS(INVALID, "rgba is null", fullconv_segment(segmenter, NULL, 3, 2, 20, labels, 6));
    FAILS(INVALID, "labels is null", fullconv_segment(segmenter, rgba, 3, 2, 20, NULL, 6));
    FAILS(INVALID, "at least one", fullconv_segment(segmenter, rgba, 0, 2, 20, labels, 6));
    FAILS(INVALID, "at least one", fullconv_segment(segmenter, rgba, 3, 0, 20, labels, 6));
    FAILS(INVALID, "row_bytes", fullconv_segment(segmenter, rgba, 3, 2, 11, labels, 6));
    FAILS(INVALID, "labels takes 6", fullconv_segment(segmenter, rgba, 3, 2, 20, labels, 5));
    FAILS(INVALID, "row_bytes", fullconv_segment(segmenter, rgba, (size_t)-1, 2, 0, labels, 6));
    FAILS(INVALID, "no memory", fullconv_segment(segmenter, rgba, 3, (size_t)-1, 0, labels, 6));
    FAILS(INVALID, "no memory", fullconv_segment(segmenter, rgba, 3, 2, (size_t)-1, labels, 6));
    EXPECT(labels[0] == 255 && labels[5] == 255);
    WORKS(fullconv_segment(segmenter, rgba, 3, 2, 20, labels, 6));
    for (size_t i = 0; i < 6; i++) {
        EXPECT(labels[i] < 5);
    }
    WORKS(fullconv_segment(segmenter, packed, 3, 2, 0, again, 6));
    EXPECT(memcmp(labels, again, 6) == 0);
    float *probabilities = malloc(30 * sizeof *probabilities);
    FAILS(INVALID, "segmenter is null", fullconv_probabilities(NULL, rgba, 3, 2, 20, probabilities, 30));
    FAILS(INVALID, "rgba is null", fullconv_probabilities(segmenter, NULL, 3, 2, 20, probabilities, 30));
    FAILS(INVALID, "probabilities is null", fullconv_probabilities(segmenter, rgba, 3, 2, 20, NULL, 30));
    FAILS(INVALID, "takes 30 numbers", fullconv_probabilities(segmenter, rgba, 3, 2, 20, probabilities, 29));
    FAILS(INVALID, "no memory", fullconv_probabilities(segmenter, rgba, 3, (size_t)-1, 0, probabilities, 30));
    WORKS(fullconv_probabilities(segmenter, rgba, 3, 2, 20, probabilities, 30));
    for (size_t i = 0; i < 30; i++) {
        EXPECT(probabilities[i] >= 0 && probabilities[i] <= probabilities[6 * labels[i % 6] + i % 6]);
    }
    free(probabilities);
    WORKS(fullconv_segmenter_free(segmenter));
    FAILS(INVALID, "freed before", fullconv_segment(segmenter, rgba, 3, 2, 20, labels, 6));
    FAILS(INVALID, "freed before", fullconv_segmenter_free(segmenter));
    free(rgba);
    free(labels);
    free(packed);
    free(again);
}

/* Arguments: a model file without class names, and the number of repetitions. */
int main(int argc, char **argv) {
    int times = argc > 2 ? atoi(argv[2]) : 0;
    EXPECT(times > 0);
    EXPECT(fullconv_version()[0] != 0);
    statuses();
    for (int i = 0; i < times; i++) {
        models(argv[1]);
        devices();
        segmenters(argv[1]);
    }
    if (!wrong) {
        printf("all as expected\n");
    }
    return wrong;
}
