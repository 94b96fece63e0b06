//! What Mesa's compilers for real GPUs make of fullconv's pipelines, without a GPU. tests/gpus.sh installs the drivers
//! and runs this program on each.

mod chips;
mod compile;
mod isa;
mod model;
mod networks;
mod record;
mod report;
mod rules;
mod shader;

use fullconv::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "fullconv-gpus chips | compile CHIP FOLDER | report FOLDER CHIP… | layers FOLDER CHIP… | \
                     reread FOLDER CHIP… | predictions FOLDER CHIP | write FOLDER DOCUMENT CHIP…";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["chips"] => {
            for chip in &chips::CHIPS {
                let [shim, manifest] = chip.family.maker.files();
                let [name, value] = chip.variable;
                println!("{} {shim} {manifest} {name}={value}", chip.name);
            }
            Ok(ExitCode::SUCCESS)
        }
        ["compile", chip, folder] => compile(chip, Path::new(folder)),
        ["report", folder, names @ ..] => report(Path::new(folder), names),
        ["reread", folder, names @ ..] => reread(Path::new(folder), names),
        ["layers", folder, names @ ..] => layers(Path::new(folder), names),
        ["predictions", folder, chip] => predictions(Path::new(folder), chip),
        ["write", folder, document, names @ ..] => {
            write(Path::new(folder), Path::new(document), names)
        }
        _ => {
            eprintln!("usage: {USAGE}");
            Ok(ExitCode::from(2))
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("fullconv-gpus: {error}");
        ExitCode::FAILURE
    })
}

fn chip(name: &str) -> Result<&'static chips::Chip> {
    let unknown = || Error::new(ErrorKind::Request, format!("no chip is called {name}"));
    chips::find(name).ok_or_else(unknown)
}

/// An error of a file.
fn of_file(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Io, format!("{}: {error}", path.display()))
}

/// Compiles everything on the chip at hand, and keeps what was seen.
fn compile(name: &str, folder: &Path) -> Result<ExitCode> {
    let Some(records) = std::env::var_os(record::FOLDER).map(PathBuf::from) else {
        let text = format!("{} names no folder: run tests/gpus.sh", record::FOLDER);
        return Err(Error::new(ErrorKind::Request, text));
    };
    let seen = compile::run(chip(name)?, folder, &records)?;
    keep(folder, &seen)?;
    Ok(ExitCode::SUCCESS)
}

fn keep(folder: &Path, seen: &compile::Seen) -> Result<()> {
    let path = folder.join(format!("{}.json", seen.chip));
    let text = serde_json::to_vec(seen).map_err(|error| of_file(&path, error))?;
    std::fs::write(&path, text).map_err(|error| of_file(&path, error))
}

/// Reads the kept instructions again, after a change of a reader.
fn reread(folder: &Path, names: &[&str]) -> Result<ExitCode> {
    for (chip, mut seen) in seen(folder, names)? {
        let all = seen.pipelines.iter_mut().enumerate();
        for (number, compiled) in all.filter(|(_, of)| of.error.is_none()) {
            let path = compile::text_path(
                &folder.join("isa").join(chip.name),
                number,
                &compiled.kernel,
            );
            let text = std::fs::read_to_string(&path).map_err(|error| of_file(&path, error))?;
            let parts = text.split("\n=== ").skip(1);
            let parts = parts.filter_map(|part| part.split_once('\n'));
            let texts: Vec<_> = parts
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .collect();
            compiled.mix = isa::read(chip, &texts, &compiled.facts);
        }
        keep(folder, &seen)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What was seen on each of the chips.
fn seen(folder: &Path, names: &[&str]) -> Result<Vec<report::OnChip>> {
    let read = |name: &&str| {
        let path = folder.join(format!("{name}.json"));
        let text = std::fs::read(&path).map_err(|error| of_file(&path, error))?;
        let seen = serde_json::from_slice(&text).map_err(|error| of_file(&path, error))?;
        Ok((chip(name)?, seen))
    };
    names.iter().map(read).collect()
}

fn report(folder: &Path, names: &[&str]) -> Result<ExitCode> {
    let errors = report::print(&seen(folder, names)?);
    Ok(if errors == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn layers(folder: &Path, names: &[&str]) -> Result<ExitCode> {
    for (chip, seen) in seen(folder, names)? {
        println!("{}", report::layers(chip, &seen));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the predicted times of all layers on a chip as JSON, for comparison with measured ones.
fn predictions(folder: &Path, name: &str) -> Result<ExitCode> {
    for (chip, seen) in seen(folder, &[name])? {
        println!("{}", report::predictions(chip, &seen));
    }
    Ok(ExitCode::SUCCESS)
}

/// Replaces the tables between the marks of a document.
fn write(folder: &Path, document: &Path, names: &[&str]) -> Result<ExitCode> {
    let all = seen(folder, names)?;
    let mut text = std::fs::read_to_string(document).map_err(|error| of_file(document, error))?;
    let drivers: std::collections::BTreeSet<_> =
        all.iter().map(|(_, seen)| &seen.device[1]).collect();
    let drivers: Vec<_> = drivers.into_iter().map(String::as_str).collect();
    let tables = [
        ("drivers", format!("Drivers: {}.\n", drivers.join(", "))),
        ("summary", report::summary(&all)),
        ("times", report::times(&all)),
        ("kernels", report::kernels(&all)),
        ("assumptions", report::assumptions()),
    ];
    for (place, table) in tables {
        let [begin, end] = [
            format!("<!-- {place} -->\n"),
            format!("<!-- end of {place} -->"),
        ];
        let from = text.find(&begin).map(|at| at + begin.len());
        let to = text
            .find(&end)
            .filter(|to| from.is_some_and(|from| from <= *to));
        let (Some(from), Some(to)) = (from, to) else {
            return Err(of_file(document, format!("no place for {place}")));
        };
        text.replace_range(from..to, &table);
    }
    std::fs::write(document, text).map_err(|error| of_file(document, error))?;
    Ok(ExitCode::SUCCESS)
}
