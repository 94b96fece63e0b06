//! The form of frames on standard input and output: YUV4MPEG2 (Y4M) or bare pixels.

use fullconv::{Error, ErrorKind, Result, Size};
use std::fmt::Write as _;
use std::io::{self, BufRead, Read, Write};

/// The first word of a Y4M stream.
const MAGIC: &str = "YUV4MPEG2";
/// The most bytes of a Y4M stream's header, and of a frame's.
const MOST_HEADER: u64 = 1024;
/// The most bytes of a frame.
const MOST_FRAME: usize = 1 << 30;

/// The planes of a frame, of 8 bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planes {
    /// One plane: brightness, or class ids.
    Grey,
    /// Chroma of half the width and height.
    Yuv420,
    /// Chroma of half the width.
    Yuv422,
    Yuv444,
    /// Three interleaved bytes a pixel.
    Rgb,
}

impl Planes {
    /// The width and height of a chroma plane.
    pub fn chroma(self, size: Size) -> Size {
        match self {
            Self::Yuv420 => Size::new(size.height.div_ceil(2), size.width.div_ceil(2)),
            Self::Yuv422 => Size::new(size.height, size.width.div_ceil(2)),
            Self::Yuv444 => size,
            Self::Grey | Self::Rgb => Size::new(0, 0),
        }
    }

    /// The bytes of a frame; `None` if they are more than a frame may have.
    fn bytes(self, size: Size) -> Option<usize> {
        let pixels = size.height.checked_mul(size.width)?;
        let chroma = self.chroma(size);
        let bytes = match self {
            Self::Rgb => pixels.checked_mul(3)?,
            _ => pixels.checked_add(chroma.height.checked_mul(chroma.width)?.checked_mul(2)?)?,
        };
        (bytes <= MOST_FRAME).then_some(bytes)
    }
}

/// A stream's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    pub size: Size,
    pub planes: Planes,
    /// Whether brightness reaches from 0 to 255, not from 16 to 235.
    pub full_range: bool,
    /// The parameters of a Y4M stream for frame rate, interlacing and the shape of pixels; empty for bare pixels.
    pub timing: Vec<String>,
}

impl Form {
    /// That of bare pixels, three bytes each.
    pub fn of_pixels(size: Size) -> Result<Self> {
        Self {
            size,
            planes: Planes::Rgb,
            full_range: true,
            timing: Vec::new(),
        }
        .checked()
    }

    fn checked(self) -> Result<Self> {
        match self.planes.bytes(self.size) {
            Some(1..) => Ok(self),
            Some(0) => refuse(format!("frames of {} have no pixels", self.size)),
            None => refuse(format!("frames of {} are larger than 1 GiB", self.size)),
        }
    }

    /// Reads the header of a Y4M stream.
    ///
    /// # Errors
    /// `Io` if it cannot be read, `Request` if it is not that of a stream that is understood.
    pub fn read(input: &mut impl BufRead) -> Result<Self> {
        let line = line(input)?.unwrap_or_default();
        let mut words = line.split(' ');
        if words.next() != Some(MAGIC) {
            return refuse(
                "standard input is no Y4M stream: make one (ffmpeg -i VIDEO -pix_fmt yuv420p -f yuv4mpegpipe -), or give \
                 the size of bare pixels (--raw HxW)"
                    .into(),
            );
        }
        let (mut height, mut width) = (None, None);
        let (mut planes, mut full_range) = (Planes::Yuv420, false);
        let mut timing = Vec::new();
        for word in words.filter(|word| !word.is_empty()) {
            let (name, value) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
            match name {
                "H" => height = value.parse().ok(),
                "W" => width = value.parse().ok(),
                "C" => planes = colours(value)?,
                "X" if value == "COLORRANGE=FULL" => full_range = true,
                "F" | "I" | "A" => timing.push(word.to_owned()),
                // Comments, and extensions that do not change the pixels.
                _ => {}
            }
        }
        let (Some(height), Some(width)) = (height, width) else {
            return refuse(format!("the Y4M stream's header lacks its size: {line:?}"));
        };
        Self {
            size: Size::new(height, width),
            planes,
            full_range,
            timing,
        }
        .checked()
    }

    /// Reads the next frame into `frame`; false at the end of the stream. `number` is the frame's, counted from 1.
    ///
    /// # Errors
    /// `Io` if it cannot be read, or the stream ends within it; `Request` if it does not begin as a frame.
    pub fn read_frame(
        &self,
        input: &mut impl BufRead,
        frame: &mut Vec<u8>,
        number: usize,
    ) -> Result<bool> {
        if self.planes == Planes::Rgb {
            if input
                .fill_buf()
                .map_err(|reason| unread(&reason))?
                .is_empty()
            {
                return Ok(false);
            }
        } else {
            match line(input)? {
                None => return Ok(false),
                Some(head) if head == "FRAME" || head.starts_with("FRAME ") => {}
                Some(_) => return refuse(format!("frame {number} does not begin with FRAME")),
            }
        }
        frame.resize(self.planes.bytes(self.size).unwrap_or(0), 0);
        input
            .read_exact(frame)
            .map_err(|reason| match reason.kind() {
                io::ErrorKind::UnexpectedEof => Error::new(
                    ErrorKind::Io,
                    format!("the stream ends within frame {number}"),
                ),
                _ => unread(&reason),
            })?;
        Ok(true)
    }

    /// Writes the header of a Y4M stream of this form.
    pub fn write(&self, output: &mut impl Write) -> io::Result<()> {
        let mut header = format!("{MAGIC} W{} H{}", self.size.width, self.size.height);
        for word in &self.timing {
            // A String takes any text.
            let _ = write!(header, " {word}");
        }
        header += match self.planes {
            Planes::Grey => " Cmono",
            Planes::Yuv420 => " C420jpeg",
            Planes::Yuv422 => " C422",
            Planes::Yuv444 | Planes::Rgb => " C444",
        };
        let range = if self.full_range { "FULL" } else { "LIMITED" };
        writeln!(output, "{header} XCOLORRANGE={range}")
    }
}

/// The planes of the colour space `name`.
fn colours(name: &str) -> Result<Planes> {
    Ok(match name {
        "420" | "420jpeg" | "420mpeg2" | "420paldv" => Planes::Yuv420,
        "422" => Planes::Yuv422,
        "444" => Planes::Yuv444,
        "mono" => Planes::Grey,
        _ => {
            return refuse(format!(
                "frames in the colour space {name:?} are not read: have 8 bits a sample (ffmpeg -pix_fmt yuv420p)"
            ));
        }
    })
}

/// The next line without its end; `None` at the end of the stream.
fn line(input: &mut impl BufRead) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    let mut within = input.take(MOST_HEADER);
    within
        .read_until(b'\n', &mut bytes)
        .map_err(|reason| unread(&reason))?;
    match bytes.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        // Cut short, or a line without end: the text is no header's.
        Some(_) => Ok(Some(String::new())),
    }
}

fn refuse<T>(text: String) -> Result<T> {
    Err(Error::new(ErrorKind::Request, text))
}

fn unread(reason: &io::Error) -> Error {
    Error::new(
        ErrorKind::Io,
        format!("cannot read standard input: {reason}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_size_planes_and_range() {
        let read = |header: &str| Form::read(&mut header.as_bytes());
        let form =
            read("YUV4MPEG2 W5 H3 F30:1 Ip A1:1 C422 XYSCSS=422 XCOLORRANGE=FULL\n").unwrap();
        assert_eq!((form.size, form.planes), (Size::new(3, 5), Planes::Yuv422));
        assert!(form.full_range);
        assert_eq!(form.timing, ["F30:1", "Ip", "A1:1"]);
        assert_eq!(form.planes.bytes(form.size), Some(15 + 2 * 9));
        let mut written = Vec::new();
        form.write(&mut written).unwrap();
        let again = Form::read(&mut written.as_slice()).unwrap();
        assert_eq!(again, form);
        assert_eq!(read("YUV4MPEG2 W5 H3\n").unwrap().planes, Planes::Yuv420);
    }

    #[test]
    fn headers_that_are_not_understood_are_refused() {
        for (header, part) in [
            ("", "no Y4M"),
            ("RIFF", "no Y4M"),
            ("YUV4MPEG2 W5 H3", "no Y4M"),
            ("YUV4MPEG2 W5\n", "lacks its size"),
            ("YUV4MPEG2 W-5 H3\n", "lacks its size"),
            ("YUV4MPEG2 W0 H3\n", "no pixels"),
            ("YUV4MPEG2 W5 H3 C420p10\n", "8 bits"),
            ("YUV4MPEG2 W99999 H99999\n", "1 GiB"),
            (
                "YUV4MPEG2 W18446744073709551615 H18446744073709551615\n",
                "1 GiB",
            ),
            ("YUV4MPEG2 W5 H3 é\n", ""),
        ] {
            match Form::read(&mut header.as_bytes()) {
                Err(error) => assert!(
                    !part.is_empty() && error.to_string().contains(part),
                    "{error}"
                ),
                Ok(_) => assert_eq!(part, "", "{header}"),
            }
        }
    }

    #[test]
    fn frames_end_whole_or_with_an_error() {
        let form = Form::read(&mut "YUV4MPEG2 W2 H2 Cmono\n".as_bytes()).unwrap();
        let mut input = "FRAME\nabcdFRAME Ip\nefghFRAME\nij".as_bytes();
        let mut frame = Vec::new();
        for expected in ["abcd", "efgh"] {
            assert!(form.read_frame(&mut input, &mut frame, 1).unwrap());
            assert_eq!(frame, expected.as_bytes());
        }
        let cut = form.read_frame(&mut input, &mut frame, 3).unwrap_err();
        assert!(cut.to_string().contains("within frame 3"), "{cut}");
        let wrong = form.read_frame(&mut "FRAM\nabcd".as_bytes(), &mut frame, 1);
        assert!(wrong.unwrap_err().to_string().contains("frame 1"));
        assert!(!form.read_frame(&mut "".as_bytes(), &mut frame, 1).unwrap());
        let pixels = Form::of_pixels(Size::new(1, 2)).unwrap();
        let mut input = [1; 7].as_slice();
        assert!(pixels.read_frame(&mut input, &mut frame, 1).unwrap());
        assert!(pixels.read_frame(&mut input, &mut frame, 2).is_err());
    }
}
