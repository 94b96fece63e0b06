// fullconv labels every pixel of an image on any GPU: the interface for C.
//
// Every function that can fail returns a status; fullconv_last_error() is the message. A model, a device
// and a segmenter are handles: numbers that look like pointers and may not be looked into. What was freed
// is remembered, so a handle that is none, or no more, is an error and not a crash. All functions may be
// called from any thread; a segmenter keeps what it needs of its model and its device.
//
// Written by cbindgen from capi/src/lib.rs; do not edit.

#ifndef FULLCONV_H
#define FULLCONV_H

#include <stddef.h>
#include <stdint.h>

// How a call ended.
typedef enum {
  // It did what was asked for.
  FULLCONV_STATUS_OK = 0,
  // An argument is null, no handle (or one that was freed), no UTF-8, or too small.
  FULLCONV_STATUS_INVALID_ARGUMENT = 1,
  // A file could not be read.
  FULLCONV_STATUS_IO = 2,
  // A model file is damaged, incomplete, or not one that fullconv knows.
  FULLCONV_STATUS_MODEL_FILE = 3,
  // The picture is not what it should be.
  FULLCONV_STATUS_PICTURE = 4,
  // Shapes do not fit together.
  FULLCONV_STATUS_SHAPE = 5,
  // What was asked for is not there: a backend, an adapter.
  FULLCONV_STATUS_REQUEST = 6,
  // The model or the device cannot do it.
  FULLCONV_STATUS_UNSUPPORTED = 7,
  // The device's limits do not allow it.
  FULLCONV_STATUS_LIMIT = 8,
  // Scores are not finite: the weights or the picture are too large for f32.
  FULLCONV_STATUS_NOT_FINITE = 9,
  // There is no usable adapter. The device "cpu" is there in any case.
  FULLCONV_STATUS_NO_ADAPTER = 10,
  // The device failed: lost, out of memory, a shader it would not compile.
  FULLCONV_STATUS_DEVICE = 11,
  // A fault of fullconv itself.
  FULLCONV_STATUS_INTERNAL = 12,
} fullconv_status;

// Where networks run.
typedef struct fullconv_device fullconv_device;

// A network with its weights.
typedef struct fullconv_model fullconv_model;

// A model on a device.
typedef struct fullconv_segmenter fullconv_segmenter;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The message of the last call on this thread that can fail: one line, in UTF-8, empty if it succeeded.
// Valid until the next such call on this thread.
const char *fullconv_last_error(void);

// The version of the library, such as "0.1.0".
const char *fullconv_version(void);

// Opens the model file (safetensors) at `path`, in UTF-8. The file must stay as it is while the model or a
// segmenter of it lives.
//
// # Safety
// `path` is null or a text that ends in a zero; `model` is null or may be written to.
fullconv_status fullconv_model_read(const char *path,
                                    fullconv_model **model);

// A model file in memory, of which a copy is made.
//
// # Safety
// `bytes` is null or the first of `length` bytes; `model` is null or may be written to.
fullconv_status fullconv_model_from_bytes(const uint8_t *bytes,
                                          size_t length,
                                          fullconv_model **model);

// The small model that comes with the library, which knows street scenes. Its weights are for research
// and personal use.
//
// # Safety
// `model` is null or may be written to.
fullconv_status fullconv_model_demo(fullconv_model **model);

// How many classes the model tells apart; 0 if it is none. Labels are below it.
size_t fullconv_model_class_count(const fullconv_model *model);

// The name of class `id`, in UTF-8 ("class 7" where the model names none), valid until the model is freed;
// null if there is no such class or no such model.
const char *fullconv_model_class_name(const fullconv_model *model,
                                      size_t id);

// The colour in which class `id` is shown: red, green and blue, 3 bytes, written to `rgb`.
//
// # Safety
// `rgb` is null, or 3 bytes may be written to it.
fullconv_status fullconv_model_class_colour(const fullconv_model *model, size_t id, uint8_t *rgb);

// Frees a model; null is freed already. Segmenters of it stay.
fullconv_status fullconv_model_free(fullconv_model *model);

// Opens a device. `backend` is "vulkan", "metal", "dx12" or "gl"; null, "" or "auto" for the best there
// is; or "cpu" for the CPU reference, which is slow and on every machine. `adapter` is a part of the
// name of an adapter, its address on the PCI bus ("0000:01:00.0") or its number among the backend's; null or ""
// for the first that works.
//
// # Safety
// `backend` and `adapter` are null or texts that end in a zero; `device` is null or may be written to.
fullconv_status fullconv_device_open(const char *backend,
                                     const char *adapter,
                                     fullconv_device **device);

// The device for people: its name, backend and kind, in UTF-8, valid until it is freed; null if it is none.
const char *fullconv_device_name(const fullconv_device *device);

// Frees a device; null is freed already. Segmenters on it stay.
fullconv_status fullconv_device_free(fullconv_device *device);

// Brings a model onto a device: compiles its kernels and uploads its weights. One segmenter serves any
// number of pictures and threads.
//
// # Safety
// `segmenter` is null or may be written to.
fullconv_status fullconv_segmenter_new(const fullconv_device *device,
                                       const fullconv_model *model,
                                       fullconv_segmenter **segmenter);

// Labels every pixel of a picture of `width` × `height` pixels: red, green, blue and a fourth byte that does
// not matter, rows from the top, each `row_bytes` after the one before it (0: 4 · width). Writes the class of
// each pixel, row by row, into the first width · height of the `labels_length` bytes at `labels`.
//
// # Safety
// `rgba` is null or the first byte of such a picture; `labels` is null, or `labels_length` bytes may be
// written to it, none of which is the picture's.
fullconv_status fullconv_segment(const fullconv_segmenter *segmenter,
                                 const uint8_t *rgba,
                                 size_t width,
                                 size_t height,
                                 size_t row_bytes,
                                 uint8_t *labels,
                                 size_t labels_length);

// Frees a segmenter; null is freed already.
fullconv_status fullconv_segmenter_free(fullconv_segmenter *segmenter);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* FULLCONV_H */
