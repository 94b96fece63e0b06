//! A share of the pictures, for jobs that several machines do without talking to each other.

use crate::jobs::Job;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// One of `count` shares of the pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    count: u32,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let numbers = parts.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            Some((_, count)) if count > 0 => Err(format!(
                "the shares of {count} are 0/{count} to {}/{count}",
                count - 1
            )),
            _ => Err("a share is I/N, such as 0/8, the first of eight".into()),
        }
    }
}

impl Shard {
    /// Whether the picture of `job` belongs to this share. Its name decides, not its place in a list, so machines
    /// that list the folder at different times agree.
    pub fn has(self, job: &Job) -> bool {
        self.of(&job.below) == self.index
    }

    fn of(self, below: &Path) -> u32 {
        let names = below.components().filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_string_lossy()),
            _ => None,
        });
        let name = names.collect::<Vec<_>>().join("/");
        crc32fast::hash(name.as_bytes()) % self.count
    }

    /// `a.jsonl` as `a.0-of-8.jsonl`: each share writes a file of its own.
    pub fn named(self, path: &Path) -> PathBuf {
        let mut name = OsString::from(path.file_stem().unwrap_or_default());
        name.push(format!(".{}-of-{}", self.index, self.count));
        if let Some(extension) = path.extension() {
            name.push(".");
            name.push(extension);
        }
        path.with_file_name(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_counted_from_0() {
        assert_eq!("3/4".parse(), Ok(Shard { index: 3, count: 4 }));
        let refused = |text: &str| text.parse::<Shard>().unwrap_err();
        assert!(refused("4/4").contains("0/4 to 3/4"));
        for text in ["", "1", "0/0", "-1/2", "1/x", "1/2/3"] {
            assert!(refused(text).contains("I/N"), "{text}");
        }
    }

    #[test]
    fn every_picture_has_one_share_and_the_shares_are_alike() {
        let shard = Shard { index: 0, count: 8 };
        let mut sizes = [0; 8];
        for i in 0..8000 {
            sizes[shard.of(Path::new(&format!("a/{i:06}.jpg"))) as usize] += 1;
        }
        assert!(
            sizes.iter().all(|size| (800..1200).contains(size)),
            "{sizes:?}"
        );
        // The share of a name never changes: a job may be resumed by a later version.
        assert_eq!(shard.of(Path::new("a/b.jpg")), 0x5CE1_1017 % 8);
    }

    #[test]
    fn a_manifest_has_the_share_in_its_name() {
        let shard = Shard { index: 2, count: 8 };
        let named = |path: &str| shard.named(Path::new(path));
        assert_eq!(named("out/m.jsonl"), Path::new("out/m.2-of-8.jsonl"));
        assert_eq!(named("m"), Path::new("m.2-of-8"));
    }
}
