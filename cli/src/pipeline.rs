//! A pipeline of three stages: reading on several threads, the device, writing on several threads.
//! Results keep the order of the jobs. A stage waits for the next one: each thread holds at most one picture.

use fullconv::{Error, ErrorKind, Result};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope, available_parallelism};

/// The most reading threads, and the most writing threads. Each holds a picture.
const MOST_THREADS: usize = 4;

/// A stage's input, in order: it takes turns among the lanes, one per thread of the stage before.
pub struct Inbox<T> {
    lanes: Vec<Receiver<T>>,
    next: usize,
}

impl<T> Iterator for Inbox<T> {
    type Item = T;

    /// Waits for the next item; `None` if the stage before has ended.
    fn next(&mut self) -> Option<T> {
        let lane = self.lanes.get(self.next)?;
        self.next = (self.next + 1) % self.lanes.len();
        lane.recv().ok()
    }
}

/// A stage's output, in order.
pub struct Outbox<T> {
    lanes: Vec<SyncSender<T>>,
    next: usize,
}

impl<T> Outbox<T> {
    /// Waits for room in the next stage and sends `result`; false if the next stage has ended.
    pub fn send(&mut self, result: T) -> bool {
        let lane = self.next;
        self.next = (self.next + 1) % self.lanes.len();
        self.lanes[lane].send(result).is_ok()
    }
}

/// Reads `jobs` on several threads, passes them to `work`, which sends one result for each, writes the results on
/// several threads and reports them on this one. `work` may end early.
///
/// # Errors
/// The first error of `report`, which ends the pipeline; `Io` if a thread cannot be started.
pub fn run<J: Sync, Read: Send, Worked: Send, Written: Send>(
    jobs: &[J],
    read: impl Fn(&J) -> Read + Sync,
    work: impl FnOnce(Inbox<Read>, Outbox<Worked>) + Send,
    write: impl Fn(&J, Worked) -> Written + Sync,
    mut report: impl FnMut(&J, Written) -> Result<()>,
) -> Result<()> {
    let cores = available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = cores.min(MOST_THREADS).min(jobs.len()).max(1);
    let (read, write) = (&read, &write);
    std::thread::scope(|scope| {
        // No buffer between the stages: a thread holds its result until the next stage takes it.
        let (readers, inbox) = lanes(threads, 0);
        let (outbox, writers) = lanes(threads, 0);
        let (reporters, reports) = lanes(threads, 1);
        for (lane, to_work) in readers.lanes.into_iter().enumerate() {
            spawn(scope, move || {
                let mut results = jobs.iter().skip(lane).step_by(threads).map(read);
                results.all(|result| to_work.send(result).is_ok())
            })?;
        }
        spawn(scope, move || work(inbox, outbox))?;
        let ends = writers.lanes.into_iter().zip(reporters.lanes);
        for (lane, (from_work, to_report)) in ends.enumerate() {
            spawn(scope, move || {
                let jobs = jobs.iter().skip(lane).step_by(threads);
                let mut results = jobs.zip(from_work).map(|(job, done)| write(job, done));
                results.all(|result| to_report.send(result).is_ok())
            })?;
        }
        let mut all = jobs.iter().zip(reports);
        all.try_for_each(|(job, written)| report(job, written))
    })
}

fn lanes<T>(count: usize, room: usize) -> (Outbox<T>, Inbox<T>) {
    let (senders, receivers) = (0..count).map(|_| sync_channel(room)).unzip();
    let outbox = Outbox {
        lanes: senders,
        next: 0,
    };
    let inbox = Inbox {
        lanes: receivers,
        next: 0,
    };
    (outbox, inbox)
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<()> {
    match Builder::new().spawn_scoped(scope, work) {
        Ok(_) => Ok(()),
        Err(e) => Err(Error::new(
            ErrorKind::Io,
            format!("cannot start a thread: {e}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// Sleeps for a time that varies with `i`.
    fn dawdle(i: usize) {
        std::thread::sleep(Duration::from_micros(((i * 7919) % 13 * 100) as u64));
    }

    #[test]
    fn everything_comes_in_order_and_little_lies_about() {
        let jobs: Vec<usize> = (0..100).collect();
        let (begun, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut reported = Vec::new();
        run(
            &jobs,
            |i| {
                begun.fetch_add(1, Ordering::SeqCst);
                dawdle(*i);
                *i
            },
            |inbox, mut outbox| {
                for (taken, i) in inbox.enumerate() {
                    let ahead = begun.load(Ordering::SeqCst) - taken;
                    most.fetch_max(ahead, Ordering::SeqCst);
                    assert!(outbox.send(10 * i));
                }
            },
            |job, worked| {
                dawdle(worked);
                (*job, worked)
            },
            |job, written| {
                assert_eq!(*job, written.0);
                reported.push(written.1);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(reported, jobs.iter().map(|i| 10 * i).collect::<Vec<_>>());
        assert!(most.into_inner() <= MOST_THREADS + 1);
    }

    #[test]
    fn work_that_ends_early_and_a_report_that_fails_end_all_of_it() {
        let jobs: Vec<usize> = (0..50).collect();
        let mut reported = 0;
        let take = |count: usize| {
            move |inbox: Inbox<usize>, mut outbox: Outbox<usize>| {
                inbox.take(count).all(|i| outbox.send(i));
            }
        };
        let count = |_: &usize, _: usize| {
            reported += 1;
            Ok(())
        };
        run(&jobs, |i| *i, take(7), |_, i| i, count).unwrap();
        assert_eq!(reported, 7);
        let fail = |_: &usize, i: usize| match i {
            3 => Err(Error::new(ErrorKind::Io, "full")),
            _ => Ok(()),
        };
        let error = run(&jobs, |i| *i, take(50), |_, i| i, fail).unwrap_err();
        assert_eq!(error.to_string(), "full");
        let none: [usize; 0] = [];
        run(&none, |i| *i, take(50), |_, i| i, |_, _| Ok(())).unwrap();
    }
}
