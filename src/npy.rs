//! The header of NumPy's array files, `.npy`, versions 1 to 3 of the format.

/// The first bytes of the format.
pub(crate) const SIGNATURE: &[u8] = b"\x93NUMPY";

/// The header of an array.
#[derive(Debug)]
pub(crate) struct Header<'a> {
    /// NumPy's type of the elements, such as `<f4`.
    pub descr: &'a str,
    /// The first index is the fastest in the file, not the last.
    pub is_fortran: bool,
    /// The text of the shape, such as `(2, 3)`.
    pub shape: &'a str,
    /// The bytes of the elements.
    pub data: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads the header of the file `bytes`; an error says what is wrong with it.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let (text, data) = parts(bytes)?;
        Ok(Self {
            descr: value(text, "descr")?.trim_matches(['\'', '"']),
            is_fortran: match value(text, "fortran_order")? {
                "True" => true,
                "False" => false,
                order => return Err(format!("its fortran_order is {order}")),
            },
            shape: value(text, "shape")?,
            data,
        })
    }

    /// The sizes of the axes; `None` if the shape is no list of sizes.
    pub(crate) fn axes(&self) -> Option<Vec<usize>> {
        let axes = self.shape.trim_matches(['(', ')']).split(',');
        let axes = axes.map(str::trim).filter(|axis| !axis.is_empty());
        axes.map(|axis| axis.parse().ok()).collect()
    }
}

/// The header's text, a Python dictionary, and the bytes after it.
fn parts(bytes: &[u8]) -> Result<(&str, &[u8]), String> {
    let cut = || "its header is cut short".to_owned();
    let lengths = bytes.get(8..).ok_or_else(cut)?;
    let (length, begin) = match bytes[SIGNATURE.len()] {
        1 => {
            let length = lengths.first_chunk().ok_or_else(cut)?;
            (usize::from(u16::from_le_bytes(*length)), 10)
        }
        2 | 3 => {
            let length = lengths.first_chunk().ok_or_else(cut)?;
            (u32::from_le_bytes(*length) as usize, 12)
        }
        version => return Err(format!("version {version} of the format is unknown")),
    };
    let header = bytes[begin..].get(..length).ok_or_else(cut)?;
    let text = std::str::from_utf8(header).map_err(|_| "its header is no text".to_owned())?;
    Ok((text, &bytes[begin + length..]))
}

/// The value of `key` in the header.
fn value<'a>(text: &'a str, key: &str) -> Result<&'a str, String> {
    let quoted = [format!("'{key}'"), format!("\"{key}\"")];
    let rest = quoted.iter().find_map(|quoted| text.split_once(quoted));
    let rest = rest.and_then(|(_, rest)| rest.trim_start().strip_prefix(':'));
    let rest = rest.ok_or_else(|| format!("its header has no {key}"))?;
    let rest = rest.trim_start();
    let end = match rest.starts_with('(') {
        true => rest.find(')').map(|end| end + 1),
        false => rest.find([',', '}']),
    };
    let end = end.ok_or_else(|| format!("the {key} in its header is cut short"))?;
    Ok(rest[..end].trim())
}
