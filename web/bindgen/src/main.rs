//! `bindgen WASM FOLDER`: writes an ES module for browsers, its TypeScript declarations and the wasm that it loads.
//! It does the work of the command wasm-bindgen with fewer dependencies.

use std::env;
use std::process::ExitCode;
use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [wasm, folder] = arguments.as_slice() else {
        eprintln!("usage: bindgen WASM FOLDER");
        return ExitCode::from(2);
    };
    let mut bindgen = Bindgen::new();
    let made = bindgen.input_path(wasm).out_name("fullconv_wasm").web(true);
    let made = made.and_then(|b| b.typescript(true).omit_default_module_path(false).generate(folder));
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bindgen: {error:?}");
            ExitCode::FAILURE
        }
    }
}
