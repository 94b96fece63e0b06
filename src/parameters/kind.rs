//! What a file is that is given in place of a safetensors file, by its first bytes, and what to do with it.

use crate::npy;

/// The most bytes that are looked at.
pub(super) const FIRST_BYTES: usize = 512;

/// The export of a module with these weights, as a command to type.
fn export(weights: &str) -> String {
    format!("python tools/export.py MODULE:CALLABLE OUT.safetensors --weights {weights}")
}

/// A line of Python as a command to type.
fn python(code: &str) -> String {
    format!("python -c \"{code}\"")
}

/// What the file called `name` is that begins with `first`, and the way out, as the rest of a sentence about the file.
/// `None` if nothing is known of it.
pub(super) fn of(first: &[u8], name: &str) -> Option<String> {
    let is = |magic: &[u8]| first.starts_with(magic);
    let save = python(&format!(
        "import torch, safetensors.torch as s; s.save_file(torch.load('{name}', map_location='cpu'), 'OUT.safetensors')"
    ));
    let pytorch = format!(
        "a PyTorch file: `{}` makes a model file of a network's code and these weights; for a state dict of a known \
         network `{save}` is enough",
        export(name)
    );
    Some(if is(b"PK\x03\x04") {
        return Some(zipped(first, name, pytorch));
    } else if first.len() > 2 && first[0] == 0x80 && (2..=5).contains(&first[1]) {
        pytorch
    } else if is(npy::SIGNATURE) {
        let save = python(&format!(
            "import numpy, safetensors.numpy as s; s.save_file({{'NAME': numpy.load('{name}')}}, 'OUT.safetensors')"
        ));
        format!("a NumPy array: `{save}` makes a safetensors file of it")
    } else if is(b"\x89HDF\r\n\x1a\n") {
        format!(
            "an HDF5 file, as Keras writes: `python -m tf2onnx.convert --keras {name} --output NET.onnx`, then `{}`",
            onnx("NET.onnx")
        )
    } else if is(b"\x08\x01\x12") {
        format!(
            "a TensorFlow model: `python -m tf2onnx.convert --saved-model FOLDER --output NET.onnx`, then `{}`",
            onnx("NET.onnx")
        )
    } else if first.get(4..8) == Some(b"TFL3") {
        format!(
            "a TensorFlow Lite model: `python -m tf2onnx.convert --tflite {name} --output NET.onnx`, then `{}`",
            onnx("NET.onnx")
        )
    } else if is_onnx(first) {
        format!("an ONNX model: `{}` makes a model file of it", onnx(name))
    } else if is(b"GGUF") || is(b"lmgg") || is(b"tjgg") {
        "a GGUF file, a format of language models: fullconv runs networks that label pictures"
            .to_owned()
    } else if is(b"version https://git-lfs") {
        let size = of_pointer(first).map_or(String::new(), |bytes| format!(" of {bytes} bytes"));
        format!(
            "a Git LFS pointer in place of the file{size}: `git lfs pull` in its repository fetches it"
        )
    } else if let Some(format) = picture(first) {
        format!(
            "a {format} picture: pictures are arguments of their own, and -m gives the model file"
        )
    } else if let Some(format) = archive(first) {
        format!("a {format} archive: unpack it, and give the model file in it")
    } else if is(b"MATLAB 5.0") {
        "a MATLAB file, as MatConvNet writes: a network in PyTorch or ONNX can be exported with tools/export.py".to_owned()
    } else {
        return text(first);
    })
}

fn onnx(name: &str) -> String {
    format!("python tools/export.py {name} OUT.safetensors")
}

/// A zip file: PyTorch's since 1.6, NumPy's `.npz`, Keras's, or any other.
fn zipped(first: &[u8], name: &str, pytorch: String) -> String {
    // The name of the first entry follows its fixed header of 30 bytes.
    let length = first
        .get(26..28)
        .map_or(0, |l| usize::from(l[0]) + 256 * usize::from(l[1]));
    let entry = String::from_utf8_lossy(first.get(30..30 + length).unwrap_or_default());
    if entry.ends_with(".npy") {
        let save = python(&format!(
            "import numpy, safetensors.numpy as s; s.save_file(dict(numpy.load('{name}')), 'OUT.safetensors')"
        ));
        format!("NumPy arrays (.npz): `{save}` makes a safetensors file of them")
    } else if entry.ends_with("/data.pkl") || entry.contains("/data/") || entry.contains("/code/") {
        pytorch
    } else if entry == "metadata.json" || entry == "config.json" || entry == "model.weights.h5" {
        format!(
            "a Keras model: `python -m tf2onnx.convert --keras {name} --output NET.onnx`, then `{}`",
            onnx("NET.onnx")
        )
    } else {
        "a zip archive: unpack it, and give the model file in it".to_owned()
    }
}

/// A protobuf message that begins as ONNX's do: its version, then another field of `ModelProto`.
fn is_onnx(first: &[u8]) -> bool {
    let follows = [0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42];
    matches!(first, [0x08, 3..=20, next, ..] if follows.contains(next))
}

/// The size of the file that a Git LFS pointer stands for.
fn of_pointer(first: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(first).ok()?;
    text.lines().find_map(|line| line.strip_prefix("size "))
}

fn picture(first: &[u8]) -> Option<&'static str> {
    let formats: [(&[u8], &str); 7] = [
        (b"\xFF\xD8\xFF", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"GIF8", "GIF"),
        (b"BM", "BMP"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"RIFF", "WebP"),
    ];
    let found = formats.iter().find(|(magic, _)| first.starts_with(magic));
    found.map(|(_, format)| *format)
}

fn archive(first: &[u8]) -> Option<&'static str> {
    let formats: [(&[u8], &str); 5] = [
        (b"\x1F\x8B", "gzip"),
        (b"\xFD7zXZ\0", "xz"),
        (b"BZh", "bzip2"),
        (b"7z\xBC\xAF\x27\x1C", "7z"),
        (b"\x28\xB5\x2F\xFD", "Zstandard"),
    ];
    let found = formats.iter().find(|(magic, _)| first.starts_with(magic));
    let is_tar = first.get(257..262) == Some(b"ustar");
    found.map(|(_, format)| *format).or(is_tar.then_some("tar"))
}

/// A file of text.
fn text(first: &[u8]) -> Option<String> {
    // A character may be cut at the end.
    let text = match std::str::from_utf8(first) {
        Ok(text) => text,
        Err(e) if first.len() - e.valid_up_to() < 4 => {
            std::str::from_utf8(&first[..e.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let is_printable = |c: char| !c.is_control() || c.is_whitespace();
    // A few bytes are as likely the rest of a file that was cut short.
    if text.len() < 8 || !text.chars().all(is_printable) {
        return None;
    }
    let begin = text
        .trim_start_matches('\u{FEFF}')
        .trim_start()
        .to_ascii_lowercase();
    Some(
        if begin.starts_with("<!doctype html") || begin.starts_with("<html") {
            "a web page in place of the file: download the file itself, signed in where that is needed; on Hugging Face its \
         address has /resolve/, not /blob/"
            .to_owned()
        } else if begin.starts_with('<') {
            "an XML file: a network in PyTorch or ONNX becomes a model file with tools/export.py"
                .to_owned()
        } else if begin.starts_with('{') && begin.contains("\"weight_map\"") {
            "an index of shards, which are opened from files only".to_owned()
        } else if begin.starts_with('{') || begin.starts_with('[') {
            "a JSON file that is no index of shards (\"weight_map\"): the weights are in another file".to_owned()
        } else {
            "a text file".to_owned()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zip(entry: &str) -> Vec<u8> {
        let mut bytes = b"PK\x03\x04".to_vec();
        bytes.resize(26, 0);
        bytes.extend([entry.len() as u8, 0, 0, 0]);
        bytes.extend(entry.as_bytes());
        bytes
    }

    #[test]
    fn files_of_other_kinds_are_known_by_their_first_bytes() {
        for (first, part) in [
            (zip("net/data.pkl"), "--weights x.bin"),
            (zip("jit/data/0"), "PyTorch"),
            (
                zip("conv1.weight.npy"),
                "save_file(dict(numpy.load('x.bin'))",
            ),
            (zip("model.weights.h5"), "Keras"),
            (zip("readme.txt"), "zip archive"),
            (b"\x80\x02\x8a\x0a".to_vec(), "PyTorch"),
            (b"\x93NUMPY\x01\0v\0".to_vec(), "NumPy array"),
            (b"\x89HDF\r\n\x1a\n\0\0".to_vec(), "tf2onnx"),
            (b"\x08\x01\x12\x80".to_vec(), "--saved-model"),
            (b"\x1c\0\0\0TFL3".to_vec(), "--tflite x.bin"),
            (b"\x08\x07\x12\x07pytorch".to_vec(), "export.py x.bin OUT"),
            (b"\x08\x08:\x05".to_vec(), "ONNX"),
            (b"GGUF\x03\0\0\0".to_vec(), "GGUF"),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 538\n".to_vec(),
                "538 bytes: `git lfs pull`",
            ),
            (b"\n<!DOCTYPE html><html>".to_vec(), "web page"),
            (b"<?xml version='1.0'?>".to_vec(), "XML"),
            (b"{\"architectures\": []}".to_vec(), "JSON"),
            (b"input: \"data\"\n".to_vec(), "a text file"),
            (b"\xFF\xD8\xFF\xE0\0".to_vec(), "JPEG picture"),
            (b"\x1F\x8B\x08\0".to_vec(), "gzip"),
        ] {
            let said = of(&first, "x.bin").unwrap();
            assert!(said.contains(part), "{part}: {said}");
        }
        for unknown in [&b"\0\0\0\0\0\0\0\0"[..], b"", b"\xFE\xFE\xFE\xFE\xFE\xFE"] {
            assert_eq!(of(unknown, "x"), None);
        }
    }
}
