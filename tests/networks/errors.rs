//! The sources of errors, and the types that threads may share or send.

use fullconv::low_level::gpu::{Executor, Network, Pending};
use fullconv::{
    Error, ErrorKind, Frames, Gpu, Mask, Model, Picture, Result, Segmenter, Size, decode_labels,
};
use std::error::Error as _;

/// Compiles only if threads may share the types of `shared` and send those of `sent`.
#[allow(dead_code)]
const SHARED: () = {
    const fn shared<T: Send + Sync>() {}
    const fn sent<T: Send>() {}
    shared::<Segmenter>();
    shared::<Gpu>();
    shared::<Model>();
    shared::<Error>();
    shared::<Picture>();
    shared::<Mask>();
    shared::<Executor>();
    shared::<Network>();
    sent::<Pending>();
    sent::<Frames>();
};

/// Checks an error's kind and source, and that the error's message contains the source's message.
#[track_caller]
fn cause<E: std::error::Error + 'static, T>(result: Result<T>, kind: ErrorKind) {
    let Err(error) = result else {
        panic!("no error");
    };
    assert_eq!(error.kind(), kind, "{error}");
    let source = error
        .source()
        .unwrap_or_else(|| panic!("{error} has no cause"));
    let source = source.downcast_ref::<E>();
    let said = source
        .unwrap_or_else(|| panic!("{error} has another cause"))
        .to_string();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(error.to_string().contains(&words(&said)), "{error}: {said}");
    // `at` keeps the source.
    assert!(error.at("here").source().is_some());
}

#[test]
fn errors_of_the_system_or_another_crate_are_sources() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("no/such");
    cause::<std::io::Error, _>(Model::read(&nowhere), ErrorKind::Io);
    cause::<std::io::Error, _>(Picture::open(&nowhere), ErrorKind::Io);
    let picture = Picture::from_rgb(Size::square(1), vec![0; 3]).unwrap();
    let unwritable = nowhere.with_extension("png");
    cause::<std::io::Error, _>(picture.save(unwritable), ErrorKind::Io);
    let broken = [&9u64.to_le_bytes()[..], b"no header"].concat();
    cause::<serde_json::Error, _>(Model::from_bytes(broken), ErrorKind::ModelFile);
    let mut png = picture.to_png().unwrap();
    png.truncate(40);
    cause::<image::ImageError, _>(Picture::decode(&png), ErrorKind::Picture);
    cause::<png::DecodingError, _>(decode_labels(&png), ErrorKind::Picture);
}

#[test]
fn an_error_of_this_crate_alone_has_no_cause() {
    let error = Picture::from_rgb(Size::square(2), vec![0; 3]).unwrap_err();
    assert!(error.source().is_none(), "{error}");
}
