// fullconv labels every pixel of an image on any GPU: the interface for C.
//
// A function that fails returns a status, 0 or null; fullconv_last_error() is the message. Models, devices and
// segmenters are handles: numbers in place of pointers, never to be dereferenced. Their numbers are not reused: an
// invalid or freed handle is an error, not a crash. All functions may be called from any thread. A segmenter stays
// valid after its model and its device are freed.
//
// Written by cbindgen from capi/src/lib.rs; do not edit.

#ifndef FULLCONV_H
#define FULLCONV_H

#include <stddef.h>
#include <stdint.h>

// How a call ended.
typedef enum {
  // The call succeeded.
  FULLCONV_STATUS_OK = 0,
  // An argument is null, not a handle (or a freed one), not UTF-8, or too small.
  FULLCONV_STATUS_INVALID_ARGUMENT = 1,
  // A file could not be read.
  FULLCONV_STATUS_IO = 2,
  // A model file is damaged, incomplete, or of an unknown network.
  FULLCONV_STATUS_MODEL_FILE = 3,
  // The picture is damaged or unsuitable.
  FULLCONV_STATUS_PICTURE = 4,
  // Shapes do not match.
  FULLCONV_STATUS_SHAPE = 5,
  // A requested backend or adapter, or a kernel in FULLCONV_WITHOUT, does not exist.
  FULLCONV_STATUS_REQUEST = 6,
  // The model or the device does not support the call.
  FULLCONV_STATUS_UNSUPPORTED = 7,
  // The call exceeds the device's limits.
  FULLCONV_STATUS_LIMIT = 8,
  // Scores are not finite: the weights or the picture are too large for f32.
  FULLCONV_STATUS_NOT_FINITE = 9,
  // There is no usable adapter. The device "cpu" always exists.
  FULLCONV_STATUS_NO_ADAPTER = 10,
  // The device failed: it did not finish, or a shader did not compile.
  FULLCONV_STATUS_DEVICE = 11,
  // A fault of fullconv itself.
  FULLCONV_STATUS_INTERNAL = 12,
  // The device is lost: its driver was reset or replaced. Free the device and its segmenters, then open another.
  FULLCONV_STATUS_DEVICE_LOST = 13,
} fullconv_status;

// A GPU, or the CPU reference.
typedef struct fullconv_device fullconv_device;

// A network with its weights.
typedef struct fullconv_model fullconv_model;

// A model on a device.
typedef struct fullconv_segmenter fullconv_segmenter;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The error message of this thread's latest call that can fail: one line of UTF-8, empty if the call succeeded. Valid
// until the thread's next call that can fail.
const char *fullconv_last_error(void);

// The version of the library, such as "0.1.0".
const char *fullconv_version(void);

// Opens the model file (safetensors) at `path`, in UTF-8. The file may not change while the model or one of its
// segmenters lives.
//
// # Safety
// `path` is null or a zero-terminated string; `model` is null or may be written to.
fullconv_status fullconv_model_read(const char *path,
                                    fullconv_model **model);

// Opens a model file in memory. The bytes are copied.
//
// # Safety
// `bytes` is null or the first of `length` bytes; `model` is null or may be written to.
fullconv_status fullconv_model_from_bytes(const uint8_t *bytes,
                                          size_t length,
                                          fullconv_model **model);

// Opens the built-in demo model, a small network for street scenes. Its weights are for research and personal use.
//
// # Safety
// `model` is null or may be written to.
fullconv_status fullconv_model_demo(fullconv_model **model);

// The number of classes of `model`, 2 for a binary one; 0 if `model` is not a valid handle. Every label is below this
// number.
size_t fullconv_model_class_count(const fullconv_model *model);

// The name of class `id`, in UTF-8 ("class 7" if the model has no name for it), valid until the model is freed;
// null if there is no such class or no such model.
const char *fullconv_model_class_name(const fullconv_model *model,
                                      size_t id);

// Writes the colour of class `id` to `rgb`: red, green and blue, 3 bytes.
//
// # Safety
// `rgb` is null, or 3 bytes may be written to it.
fullconv_status fullconv_model_class_colour(const fullconv_model *model, size_t id, uint8_t *rgb);

// The probability from which a pixel is class 1, if `model` is binary: its network has one output channel. Else 0, as
// for an invalid handle.
float fullconv_model_threshold(const fullconv_model *model);

// The binary model `model` with another threshold, between 0 and 1: a new handle, to be freed like any other.
//
// # Safety
// `changed` is null or may be written to.
fullconv_status fullconv_model_with_threshold(const fullconv_model *model,
                                              float threshold,
                                              fullconv_model **changed);

// Frees a model; null does nothing. Its segmenters stay valid.
fullconv_status fullconv_model_free(fullconv_model *model);

// Opens a device. `backend` is "vulkan", "metal", "dx12" or "gl"; null, "" or "auto" takes the best device found;
// "cpu" is the CPU reference, which is slow but runs on every machine. `adapter` is a part of an adapter's name, its
// PCI address ("0000:01:00.0") or its number among the backend's adapters; null or "" takes the first usable adapter.
// Plans leave out the kernels in the environment variable FULLCONV_WITHOUT, separated by commas.
//
// # Safety
// `backend` and `adapter` are null or zero-terminated strings; `device` is null or may be written to.
fullconv_status fullconv_device_open(const char *backend,
                                     const char *adapter,
                                     fullconv_device **device);

// A description of the device for people: its name, backend and kind, in UTF-8, valid until the device is freed; null
// if `device` is not a valid handle.
const char *fullconv_device_name(const fullconv_device *device);

// Frees a device; null does nothing. Its segmenters stay valid.
fullconv_status fullconv_device_free(fullconv_device *device);

// Puts a model on a device: compiles its kernels and uploads its weights. One segmenter serves any number of pictures
// and threads.
//
// # Safety
// `segmenter` is null or may be written to.
fullconv_status fullconv_segmenter_new(const fullconv_device *device,
                                       const fullconv_model *model,
                                       fullconv_segmenter **segmenter);

// Labels every pixel of a picture of `width` × `height` pixels. A pixel is red, green, blue and alpha, at
// which only networks with a channel for it look; rows come from the top, `row_bytes` apart (0: 4 · width). Writes the
// class of each pixel, row by row, to the first width · height bytes of `labels`, which has `labels_length` bytes. A
// network of bands that are no colours is refused.
//
// # Safety
// `rgba` is null or the first byte of a picture of that layout; `labels` is null, or `labels_length` bytes may be
// written to it, without overlap with the picture.
fullconv_status fullconv_segment(const fullconv_segmenter *segmenter,
                                 const uint8_t *rgba,
                                 size_t width,
                                 size_t height,
                                 size_t row_bytes,
                                 uint8_t *labels,
                                 size_t labels_length);

// Writes the probability of each class at each pixel of a picture, laid out as for fullconv_segment: for each class
// one plane of height rows of width numbers from 0 to 1, class 0 first, to the first class_count · width · height
// numbers of `probabilities`, which has `probabilities_length` numbers.
//
// # Safety
// `rgba` is null or the first byte of a picture of that layout; `probabilities` is null, or `probabilities_length`
// numbers may be written to it, without overlap with the picture.
fullconv_status fullconv_probabilities(const fullconv_segmenter *segmenter,
                                       const uint8_t *rgba,
                                       size_t width,
                                       size_t height,
                                       size_t row_bytes,
                                       float *probabilities,
                                       size_t probabilities_length);

// Frees a segmenter; null does nothing.
fullconv_status fullconv_segmenter_free(fullconv_segmenter *segmenter);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* FULLCONV_H */
