//! Writes the Rust of serve/proto/inference.proto into the folder given, or into serve/src/grpc.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let serve = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let folder = std::env::args().nth(1).map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| serve.join("src/grpc"));
    let files = protox::compile(["inference.proto"], [serve.join("proto")])?;
    tonic_prost_build::configure()
        .build_transport(false)
        // Tensors are not copied out of the message.
        .bytes(".")
        .out_dir(folder)
        .compile_fds(files)?;
    Ok(())
}
