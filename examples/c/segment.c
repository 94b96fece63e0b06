/* Labels a picture: a complete program in C.
 *
 *     cargo build --release --package fullconv-c
 *     cc -std=c99 -I capi/include examples/c/segment.c -L target/release -lfullconv_c \
 *        -Wl,-rpath,target/release -o segment
 *     ./segment street.ppm street.pgm            the demo model on the best device
 *     ./segment street.ppm street.pgm fcn8s.safetensors cpu
 *
 * The picture is a binary PPM ("P6", 8 bits), the mask a binary PGM whose pixel values are class ids.
 * The last arguments are a model file ("" for the demo model) and a backend.
 */
#include "fullconv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A picture: red, green, blue and an ignored byte, rows from the top. */
struct picture {
    size_t width, height;
    uint8_t *rgba;
};

static int failed(const char *what) {
    fprintf(stderr, "segment: %s: %s\n", what, fullconv_last_error());
    return 1;
}

/* Returns zero if the file cannot be read or is not such a PPM. */
static int read_picture(const char *path, struct picture *picture) {
    unsigned width, height, most;
    FILE *file = fopen(path, "rb");
    if (!file) {
        return 0;
    }
    int good = fscanf(file, "P6 %u %u %u", &width, &height, &most) == 3 && fgetc(file) != EOF &&
               most == 255 && width > 0 && height > 0 && width < 1u << 15 && height < 1u << 15;
    if (good) {
        size_t pixels = (size_t)width * height;
        picture->width = width;
        picture->height = height;
        picture->rgba = malloc(4 * pixels);
        good = picture->rgba != NULL;
        for (size_t i = 0; good && i < pixels; i++) {
            picture->rgba[4 * i + 3] = 255;
            good = fread(picture->rgba + 4 * i, 3, 1, file) == 1;
        }
        if (!good) {
            free(picture->rgba);
        }
    }
    fclose(file);
    return good;
}

static int write_mask(const char *path, const struct picture *picture, const uint8_t *labels) {
    size_t pixels = picture->width * picture->height;
    FILE *file = fopen(path, "wb");
    if (!file) {
        return 0;
    }
    fprintf(file, "P5 %zu %zu 255\n", picture->width, picture->height);
    int good = fwrite(labels, 1, pixels, file) == pixels;
    return fclose(file) == 0 && good;
}

/* Prints a line for each class in the picture. */
static void print_shares(const fullconv_model *model, const uint8_t *labels, size_t pixels) {
    size_t counts[256] = {0};
    for (size_t i = 0; i < pixels; i++) {
        counts[labels[i]]++;
    }
    for (size_t class = 0; class < fullconv_model_class_count(model) && class < 256; class++) {
        if (counts[class] > 0) {
            printf("%5.1f %%  %s\n", 100.0 * (double)counts[class] / (double)pixels,
                   fullconv_model_class_name(model, class));
        }
    }
}

int main(int argc, char **argv) {
    struct picture picture;
    fullconv_model *model = NULL;
    fullconv_device *device = NULL;
    fullconv_segmenter *segmenter = NULL;
    const char *file = argc > 3 ? argv[3] : "";
    const char *backend = argc > 4 ? argv[4] : "auto";
    int status = 0;

    if (argc < 3) {
        fprintf(stderr, "usage: %s PICTURE.ppm MASK.pgm [MODEL [BACKEND]]\n", argv[0]);
        return 2;
    }
    if (!read_picture(argv[1], &picture)) {
        fprintf(stderr, "segment: %s cannot be read as a binary PPM of 8 bits\n", argv[1]);
        return 1;
    }
    size_t pixels = picture.width * picture.height;
    uint8_t *labels = malloc(pixels);

    /* The CPU reference needs no graphics driver. */
    fullconv_status opened = fullconv_device_open(backend, NULL, &device);
    if (opened == FULLCONV_STATUS_NO_ADAPTER && strcmp(backend, "auto") == 0) {
        fprintf(stderr, "segment: %s; the CPU reference is slow\n", fullconv_last_error());
        opened = fullconv_device_open("cpu", NULL, &device);
    }
    if (opened != FULLCONV_STATUS_OK) {
        status = failed("the device");
    } else if ((file[0] ? fullconv_model_read(file, &model) : fullconv_model_demo(&model)) !=
               FULLCONV_STATUS_OK) {
        status = failed("the model");
    } else if (fullconv_segmenter_new(device, model, &segmenter) != FULLCONV_STATUS_OK) {
        status = failed("the model on the device");
    } else if (fullconv_segment(segmenter, picture.rgba, picture.width, picture.height, 0, labels,
                                pixels) != FULLCONV_STATUS_OK) {
        status = failed(argv[1]);
    } else if (!write_mask(argv[2], &picture, labels)) {
        fprintf(stderr, "segment: %s cannot be written\n", argv[2]);
        status = 1;
    } else {
        printf("%s on %s\n", argv[1], fullconv_device_name(device));
        print_shares(model, labels, pixels);
    }

    /* In any order; freeing null does nothing. */
    fullconv_segmenter_free(segmenter);
    fullconv_device_free(device);
    fullconv_model_free(model);
    free(labels);
    free(picture.rgba);
    return status;
}
