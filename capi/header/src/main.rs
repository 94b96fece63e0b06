//! Writes the C header from the code, or checks whether the committed header is current:
//!
//! ```sh
//! cargo run --manifest-path capi/header/Cargo.toml              # writes capi/include/fullconv.h
//! cargo run --manifest-path capi/header/Cargo.toml -- --check   # fails if the header would change
//! ```

use std::path::Path;
use std::process::ExitCode;

fn header(capi: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let config = cbindgen::Config::from_file(capi.join("cbindgen.toml"))?;
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(capi.join("src/border.rs"))
        .with_src(capi.join("src/lib.rs"))
        .generate()?;
    let mut written = Vec::new();
    bindings.write(&mut written);
    Ok(String::from_utf8(written)?)
}

fn main() -> ExitCode {
    let capi = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let file = capi.join("include/fullconv.h");
    let header = match header(&capi) {
        Ok(header) => header,
        Err(e) => {
            eprintln!("the header cannot be made: {e}");
            return ExitCode::FAILURE;
        }
    };
    let done = match std::env::args().any(|argument| argument == "--check") {
        true => std::fs::read_to_string(&file).map(|committed| committed == header),
        false => std::fs::write(&file, header).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!(
                "capi/include/fullconv.h differs from cbindgen's output; run capi/header without --check"
            );
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("{}: {e}", file.display());
            ExitCode::FAILURE
        }
    }
}
