//! `fullconv stream`: frames of a video in, overlays or class ids out, while the video runs.

mod colour;
mod format;
mod handoff;

use crate::options::{DeviceOptions, ModelOptions, describe, report_multi_label};
use crate::segment::opacity;
use crate::{Failure, Outcome, interrupt, terminal, text_files};
use clap::ValueEnum;
use colour::Matrix;
use format::{Form, Planes};
use fullconv::{Error, ErrorKind, Frames, Mask, Palette, Picture, Result, Segmenter, Size};
use handoff::{Full, Handoff, Taken};
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long is waited for a frame before Ctrl-C is looked for.
const PATIENCE: Duration = Duration::from_millis(50);
/// The frames whose latency is kept for the report.
const KEPT: usize = 1000;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A file:    ffmpeg -i in.mp4 -pix_fmt yuv420p -f yuv4mpegpipe - | fullconv stream | ffmpeg -i - -pix_fmt \
                  yuv420p out.mp4\n\
                  A camera:  ffmpeg -f v4l2 -i /dev/video0 -pix_fmt yuv420p -f yuv4mpegpipe - | fullconv stream --latest \
                  | ffplay -\n\
                  Every frame is labelled for itself, as `segment` labels a picture. Frames come out in their order."
)]
pub struct Args {
    /// Standard input is bare pixels of this size, three bytes each (ffmpeg -pix_fmt rgb24 -f rawvideo) [default: Y4M,
    /// 8 bits a sample]
    #[arg(long, value_name = "HxW")]
    raw: Option<Size>,
    /// What to write: overlays, or masks, frames of one byte a pixel, the class id
    #[arg(long, value_enum, value_name = "WHAT", default_value = "overlay")]
    only: What,
    /// The form of standard output [default: as standard input]
    #[arg(long, value_enum, value_name = "FORM")]
    to: Option<To>,
    /// Frames a second, for Y4M made of bare pixels
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Drop frames that the device has no time for, so that what is shown is never late
    #[arg(long)]
    latest: bool,
    /// How colours are coded in Y4M
    #[arg(long, value_enum, value_name = "NAME", default_value = "bt601")]
    matrix: Matrix,
    /// The colours of the classes, in the order of the ids: a file, or voc, cityscapes, camvid [default: the model's]
    #[arg(long, value_name = "FILE|PRESET")]
    palette: Option<PathBuf>,
    /// Opacity of the overlay's colours, from 0 (only the picture) to 1 (only the colours)
    #[arg(long, default_value = "0.5", value_parser = opacity)]
    opacity: f32,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    device: DeviceOptions,
}

/// What is written of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// The frame under the colours of its classes
    Overlay,
    /// The class ids
    Mask,
}

impl Args {
    /// Whether standard output is Y4M.
    fn is_to_y4m(&self) -> bool {
        self.to.map_or(self.raw.is_none(), |to| to == To::Y4m)
    }
}

/// The form of standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum To {
    /// YUV4MPEG2: 4:4:4, and masks as grey
    Y4m,
    /// Bare pixels: three bytes each, and masks of one
    Raw,
}

/// A frame that was read.
struct Frame {
    picture: Picture,
    read: Instant,
}

/// A frame with its mask.
struct Labelled {
    frame: Frame,
    mask: Mask,
}

/// What the threads hand on. An error ends the stream.
type Line<T> = Handoff<Result<T>>;

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    if io::stdout().is_terminal() {
        return Err(Failure::Usage(
            "the frames would go to the terminal: redirect them, or pipe them to a player",
        ));
    }
    let palette = args.palette.as_deref().map(text_files::palette);
    let palette = palette.transpose()?;
    let model = args.model.open()?;
    if !model.has_labels() {
        let text = format!(
            "{model} has {} classes, more than a mask has ids",
            model.class_count()
        );
        return Err(Error::new(ErrorKind::Unsupported, text).into());
    }
    let palette = text_files::palette_for(&model, palette)?;
    let mut input = BufReader::new(io::stdin());
    let form = match args.raw {
        Some(size) => Form::of_pixels(size)?,
        None => Form::read(&mut input)?,
    };
    report_multi_label(&model);
    let segmenter = args.device.segmenter(&model, &args.model)?;
    terminal::report(format!("{}, frames of {}", describe(&segmenter), form.size));
    interrupt::stop_when_asked()?;
    let written = stream(args, &segmenter, input, &form, palette)?;
    terminal::report(written.text());
    Ok(match interrupt::is_asked() {
        true => interrupt::status(),
        false => ExitCode::SUCCESS,
    })
}

/// Reads, labels and writes frames, each on a thread of its own, to the end of the input, of the output, or Ctrl-C.
fn stream(
    args: &Args,
    segmenter: &Segmenter,
    input: impl BufRead + Send + 'static,
    form: &Form,
    palette: Palette,
) -> Result<Written> {
    let full = if args.latest { Full::Drop } else { Full::Wait };
    let read: Arc<Line<Frame>> = Arc::new(Handoff::new(1, full));
    let labelled = Handoff::new(1, Full::Wait);
    let reader = Reader {
        form: form.clone(),
        matrix: args.matrix,
        to: read.clone(),
    };
    // Not joined: after Ctrl-C it may wait for a frame that never comes.
    let started = std::thread::Builder::new()
        .name("fullconv reader".into())
        .spawn(move || reader.run(input));
    started
        .map_err(|reason| Error::new(ErrorKind::Io, format!("cannot start a thread: {reason}")))?;
    let begin = Instant::now();
    let mut written = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let written = write(args, form, &labelled, palette);
            // The pipe is closed, or an error: nothing more is wanted.
            labelled.close();
            written
        });
        label(segmenter, &read, &labelled);
        labelled.close();
        read.close();
        match writing.join() {
            Ok(written) => written,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
    .map_err(|error| args.model.blame(error))?;
    written.time = begin.elapsed();
    written.dropped = read.dropped();
    Ok(written)
}

/// The thread that reads frames.
struct Reader {
    form: Form,
    matrix: Matrix,
    to: Arc<Line<Frame>>,
}

impl Reader {
    fn run(&self, mut input: impl BufRead) {
        let mut bytes = Vec::new();
        for number in 1.. {
            let frame = match self.form.read_frame(&mut input, &mut bytes, number) {
                Ok(false) => break,
                Ok(true) => {
                    let read = Instant::now();
                    colour::picture(&self.form, &bytes, self.matrix)
                        .map(|picture| Frame { picture, read })
                }
                Err(error) => Err(error),
            };
            let is_last = frame.is_err();
            if !self.to.put(frame) || is_last {
                break;
            }
        }
        self.to.close();
    }
}

/// Gives the frames to the device, several at a time, and hands them on with their masks. While no frame is there, the
/// masks of those under way are waited for: none waits for a later frame.
fn label(segmenter: &Segmenter, read: &Line<Frame>, labelled: &Line<Labelled>) {
    let mut device = OnDevice {
        frames: segmenter.frames(),
        pending: VecDeque::new(),
        labelled,
    };
    loop {
        let patience = match device.pending.is_empty() {
            true => PATIENCE,
            false => Duration::ZERO,
        };
        let goes_on = match read.take(patience) {
            _ if interrupt::is_asked() => break,
            Taken::Item(Ok(frame)) => device.push(frame),
            Taken::Item(Err(error)) => {
                device.finish();
                labelled.put(Err(error));
                return;
            }
            Taken::Nothing => device.pending.is_empty() || device.next(),
            Taken::End => break,
        };
        if !goes_on {
            return;
        }
    }
    device.finish();
}

/// The frames on the device, the oldest first.
struct OnDevice<'a> {
    frames: Frames,
    pending: VecDeque<Frame>,
    labelled: &'a Line<Labelled>,
}

impl OnDevice<'_> {
    /// Gives the device a frame; false if nothing more is wanted.
    fn push(&mut self, frame: Frame) -> bool {
        let mask = pollster::block_on(self.frames.push(&frame.picture));
        self.pending.push_back(frame);
        mask.is_none_or(|mask| self.hand_on(mask))
    }

    /// Waits for the oldest frame; false if there is none, or nothing more is wanted.
    fn next(&mut self) -> bool {
        let mask = pollster::block_on(self.frames.next());
        mask.is_some_and(|mask| self.hand_on(mask))
    }

    fn finish(&mut self) {
        while self.next() {}
    }

    fn hand_on(&mut self, mask: Result<Mask>) -> bool {
        let Some(frame) = self.pending.pop_front() else {
            return false;
        };
        self.labelled.put(mask.map(|mask| Labelled { frame, mask }))
    }
}

/// What was written.
#[derive(Debug, Default)]
struct Written {
    frames: usize,
    dropped: usize,
    time: Duration,
    /// From a frame's last byte in to its last byte out, for the last frames.
    latencies: VecDeque<Duration>,
}

impl Written {
    fn add(&mut self, latency: Duration) {
        self.frames += 1;
        if self.latencies.len() == KEPT {
            self.latencies.pop_front();
        }
        self.latencies.push_back(latency);
    }

    fn text(&self) -> String {
        let rate = self.frames as f64 / self.time.as_secs_f64().max(1e-9);
        let mut sorted: Vec<_> = self.latencies.iter().copied().collect();
        sorted.sort();
        let at =
            |share: usize| sorted.get((sorted.len() * share / 100).min(sorted.len().max(1) - 1));
        let latency = match (at(50), at(99)) {
            (Some(median), Some(last)) => format!(
                "; latency {} (median), {} (99th percentile)",
                terminal::time(*median),
                terminal::time(*last)
            ),
            _ => String::new(),
        };
        let (frames, dropped, time) = (self.frames, self.dropped, terminal::time(self.time));
        format!("{frames} frames in {time}, {rate:.1} a second; {dropped} dropped{latency}")
    }
}

/// Writes overlays or masks until no more come. A closed pipe ends it without an error.
fn write(args: &Args, form: &Form, labelled: &Line<Labelled>, palette: Palette) -> Result<Written> {
    let out = output_form(args, form);
    let mut output = BufWriter::new(io::stdout().lock());
    let mut written = Written::default();
    let is_y4m = args.is_to_y4m();
    let mut result = match is_y4m {
        true => out.write(&mut output),
        false => Ok(()),
    };
    while result.is_ok() {
        let Labelled { frame, mask } = match labelled.take(PATIENCE) {
            Taken::Item(next) => next?,
            Taken::Nothing => continue,
            Taken::End => break,
        };
        let bytes = match args.only {
            What::Mask => mask.labels().to_vec(),
            What::Overlay => {
                let mask = mask.with_palette(palette.clone());
                let overlay = mask.overlay(&frame.picture, args.opacity)?;
                colour::frame(&out, &overlay, args.matrix)?
            }
        };
        let head: &[u8] = if is_y4m { b"FRAME\n" } else { b"" };
        result = output
            .write_all(head)
            .and_then(|()| output.write_all(&bytes))
            .and_then(|()| output.flush());
        if result.is_ok() {
            written.add(frame.read.elapsed());
        }
    }
    match result {
        Err(reason) if reason.kind() != io::ErrorKind::BrokenPipe => Err(Error::new(
            ErrorKind::Io,
            format!("cannot write to standard output: {reason}"),
        )),
        _ => Ok(written),
    }
}

/// The form of the frames that are written.
fn output_form(args: &Args, form: &Form) -> Form {
    let timing = match args.raw {
        Some(_) => vec![format!("F{}:1", args.rate), "Ip".into(), "A1:1".into()],
        None => form.timing.clone(),
    };
    let (planes, full_range) = match (args.only, args.is_to_y4m()) {
        // Readers that take the range into account leave full range as it is: the bytes are class ids.
        (What::Mask, _) => (Planes::Grey, true),
        (What::Overlay, true) => (Planes::Yuv444, form.full_range && args.raw.is_none()),
        (What::Overlay, false) => (Planes::Rgb, true),
    };
    Form {
        size: form.size,
        planes,
        full_range,
        timing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_rates_and_percentiles() {
        let mut written = Written {
            time: Duration::from_secs(20),
            dropped: 3,
            ..Written::default()
        };
        assert!(
            written
                .text()
                .starts_with("0 frames in 20.0 s, 0.0 a second; 3 dropped")
        );
        (0..2000).for_each(|i| written.add(Duration::from_millis(i / 20)));
        assert_eq!(written.latencies.len(), KEPT);
        assert_eq!(
            written.text(),
            "2000 frames in 20.0 s, 100.0 a second; 3 dropped; latency 75 ms (median), 99 ms (99th percentile)"
        );
    }
}
