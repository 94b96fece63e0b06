//! The queue of pictures that wait for a device, and the room for them.
//!
//! A worker takes the oldest job, then jobs of the same key from anywhere in the queue, up to the length of a run. The
//! next run begins with the oldest job again, so no job is overtaken by more than one run of each worker.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One run in so many is of the bulk lane, while both lanes have jobs.
const BULK_TURN: usize = 4;

/// The lane of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lane {
    /// Usual requests.
    #[default]
    Normal,
    /// Requests that can wait.
    Bulk,
}

/// A job in the queue.
pub trait Queued {
    /// What jobs of one run share.
    type Key: PartialEq;
    /// The job's key.
    fn key(&self) -> Self::Key;
    /// The job's lane.
    fn lane(&self) -> Lane;
    /// Whether somebody still wants the result. Others are dropped when they are met.
    fn is_wanted(&self) -> bool;
}

/// The run of a worker: the key of its jobs, and how many may still follow.
#[derive(Debug)]
pub struct Run<K> {
    key: Option<K>,
    left: usize,
}

impl<K> Default for Run<K> {
    fn default() -> Self {
        Self { key: None, left: 0 }
    }
}

/// What [`Queue::wait`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken<J> {
    /// A job.
    Job(J),
    /// No job in time.
    Nothing,
    /// No job, and none will come.
    Closed,
}

/// Jobs that wait.
#[derive(Debug)]
pub struct Queue<J> {
    state: Mutex<State<J>>,
    wake: Condvar,
    run: usize,
}

#[derive(Debug)]
struct State<J> {
    normal: VecDeque<J>,
    bulk: VecDeque<J>,
    /// Runs begun, to give the bulk lane its turn.
    runs: usize,
    is_closed: bool,
}

impl<J: Queued> Queue<J> {
    /// An empty queue with runs of up to `run` jobs.
    pub fn new(run: usize) -> Self {
        Self {
            state: Mutex::new(State {
                normal: VecDeque::new(),
                bulk: VecDeque::new(),
                runs: 0,
                is_closed: false,
            }),
            wake: Condvar::new(),
            run: run.max(1),
        }
    }

    /// Adds a job at the end. `Err` if the queue is closed.
    pub fn push(&self, job: J) -> Result<(), J> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(job);
        }
        match job.lane() {
            Lane::Normal => state.normal.push_back(job),
            Lane::Bulk => state.bulk.push_back(job),
        }
        drop(state);
        // Workers that are not free for this key leave the job to another.
        self.wake.notify_one();
        Ok(())
    }

    /// The next job of `run`, or the first of the next run.
    pub fn take(&self, run: &mut Run<J::Key>) -> Option<J> {
        self.lock().take(run, self.run)
    }

    /// The next job of `run`'s key, if `run` may go on.
    pub fn take_same(&self, run: &mut Run<J::Key>) -> Option<J> {
        self.lock().take_same(run)
    }

    /// As [`Queue::take`], and waits up to `patience` if there is none.
    pub fn wait(&self, run: &mut Run<J::Key>, patience: Duration) -> Taken<J> {
        let end = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            if let Some(job) = state.take(run, self.run) {
                return Taken::Job(job);
            }
            if state.is_closed {
                return Taken::Closed;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Taken::Nothing;
            }
            let waited = self.wake.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The number of jobs.
    pub fn len(&self) -> usize {
        let state = self.lock();
        state.normal.len() + state.bulk.len()
    }

    /// Removes all jobs.
    pub fn clear(&self) -> Vec<J> {
        let mut state = self.lock();
        let normal = std::mem::take(&mut state.normal);
        let bulk = std::mem::take(&mut state.bulk);
        normal.into_iter().chain(bulk).collect()
    }

    /// Whether the queue is closed.
    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// From now on no job is added; workers end when the last is taken.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.wake.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J: Queued> State<J> {
    fn take(&mut self, run: &mut Run<J::Key>, length: usize) -> Option<J> {
        if let Some(job) = self.take_same(run) {
            return Some(job);
        }
        let job = self.take_oldest()?;
        *run = Run {
            key: Some(job.key()),
            left: length - 1,
        };
        Some(job)
    }

    fn take_same(&mut self, run: &mut Run<J::Key>) -> Option<J> {
        let key = run.key.as_ref()?;
        while run.left > 0 {
            let job =
                take_first(&mut self.normal, key).or_else(|| take_first(&mut self.bulk, key))?;
            if job.is_wanted() {
                run.left -= 1;
                return Some(job);
            }
        }
        None
    }

    /// The oldest job that is wanted, of the lane whose turn it is.
    fn take_oldest(&mut self) -> Option<J> {
        let wanted = |lane: &mut VecDeque<J>| {
            while let Some(job) = lane.pop_front() {
                if job.is_wanted() {
                    return Some(job);
                }
            }
            None
        };
        let is_bulk = self.runs % BULK_TURN == BULK_TURN - 1;
        let (first, second) = match is_bulk {
            false => (&mut self.normal, &mut self.bulk),
            true => (&mut self.bulk, &mut self.normal),
        };
        let job = wanted(first).or_else(|| wanted(second))?;
        self.runs += 1;
        Some(job)
    }
}

/// Removes the first job of `key` from `lane`.
fn take_first<J: Queued>(lane: &mut VecDeque<J>, key: &J::Key) -> Option<J> {
    let at = lane.iter().position(|job| job.key() == *key)?;
    lane.remove(at)
}

/// The room for pictures that are decoded, wait, are computed or encoded: a number of them, and of their bytes.
#[derive(Debug)]
pub struct Room {
    most: usize,
    most_bytes: u64,
    workers: usize,
    state: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    pictures: usize,
    bytes: u64,
    /// The time of a picture on a device, as a running mean, in seconds.
    mean: f64,
}

impl Room {
    /// Room for `most` pictures and `most_bytes` of their pixels, which `workers` compute.
    pub fn new(most: usize, most_bytes: u64, workers: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_bytes,
            workers: workers.max(1),
            state: Mutex::default(),
        })
    }

    /// Whether there is no room for another picture.
    pub fn is_full(&self) -> bool {
        self.lock().pictures >= self.most
    }

    /// The most pictures.
    pub fn most(&self) -> usize {
        self.most
    }

    /// A place for `pictures` that take `bytes`; `None` if there is no room now. A single picture may take more bytes
    /// than the room has, when there is no other.
    pub fn place(self: &Arc<Self>, pictures: usize, bytes: u64) -> Option<Place> {
        let mut used = self.lock();
        let is_alone = used.pictures == 0;
        let fits = used.pictures + pictures <= self.most
            && (is_alone || used.bytes.saturating_add(bytes) <= self.most_bytes);
        if !fits {
            return None;
        }
        used.pictures += pictures;
        used.bytes = used.bytes.saturating_add(bytes);
        Some(Place {
            room: self.clone(),
            pictures,
            bytes,
        })
    }

    /// Notes the time that a picture took on a device.
    pub fn note(&self, time: Duration) {
        let mut used = self.lock();
        let seconds = time.as_secs_f64();
        used.mean = match used.mean {
            0.0 => seconds,
            mean => 0.9 * mean + 0.1 * seconds,
        };
    }

    /// The time that a new picture would wait, about.
    pub fn wait(&self) -> Duration {
        let used = self.lock();
        let seconds = used.pictures as f64 * used.mean / self.workers as f64;
        Duration::from_secs_f64(seconds.clamp(0.0, 600.0))
    }

    /// The pictures in the room.
    pub fn pictures(&self) -> usize {
        self.lock().pictures
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a [`Room`], given back when dropped.
#[derive(Debug)]
pub struct Place {
    room: Arc<Room>,
    pictures: usize,
    bytes: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut used = self.room.lock();
        used.pictures -= self.pictures;
        used.bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Job(char, usize, bool);

    impl Queued for Job {
        type Key = char;

        fn key(&self) -> char {
            self.0
        }

        fn lane(&self) -> Lane {
            match self.0.is_uppercase() {
                true => Lane::Bulk,
                false => Lane::Normal,
            }
        }

        fn is_wanted(&self) -> bool {
            self.2
        }
    }

    fn queue(run: usize, keys: &str) -> Queue<Job> {
        let queue = Queue::new(run);
        for (number, key) in keys.chars().enumerate() {
            queue.push(Job(key, number, true)).unwrap();
        }
        queue
    }

    fn order(queue: &Queue<Job>) -> String {
        let mut run = Run::default();
        std::iter::from_fn(|| queue.take(&mut run))
            .map(|job| job.0)
            .collect()
    }

    #[test]
    fn a_run_takes_jobs_of_one_key_and_then_the_oldest_is_next() {
        assert_eq!(order(&queue(8, "abab")), "aabb");
        assert_eq!(order(&queue(3, "abaaaaba")), "aaabbaaa");
        assert_eq!(order(&queue(1, "abab")), "abab");
    }

    #[test]
    fn no_job_is_overtaken_by_more_than_a_run() {
        let queue = queue(3, "ab");
        let mut run = Run::default();
        let mut taken = String::new();
        // Jobs of the first key keep coming.
        for number in 0..10 {
            queue.push(Job('a', number, true)).unwrap();
            taken.push(queue.take(&mut run).unwrap().0);
        }
        assert_eq!(taken.find('b'), Some(3), "{taken}");
    }

    #[test]
    fn bulk_has_one_turn_in_four() {
        assert_eq!(order(&queue(1, "ABabcdefgh")), "abcAdefBgh");
        assert_eq!(order(&queue(1, "AB")), "AB");
    }

    #[test]
    fn unwanted_jobs_are_skipped() {
        let queue = queue(8, "a");
        queue.push(Job('b', 1, false)).unwrap();
        queue.push(Job('a', 2, false)).unwrap();
        queue.push(Job('a', 3, true)).unwrap();
        assert_eq!(order(&queue), "aa");
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_closed_queue_gives_its_jobs_and_takes_none() {
        let queue = queue(8, "a");
        queue.close();
        assert!(queue.push(Job('a', 9, true)).is_err());
        let mut run = Run::default();
        let long = Duration::from_secs(60);
        assert_eq!(queue.wait(&mut run, long), Taken::Job(Job('a', 0, true)));
        assert_eq!(queue.wait(&mut run, long), Taken::Closed);
    }

    #[test]
    fn a_room_has_places_until_it_is_full() {
        let room = Room::new(3, 100, 1);
        let first = room.place(1, 60).unwrap();
        assert!(room.place(1, 50).is_none(), "too many bytes");
        assert!(room.place(3, 0).is_none(), "too many pictures");
        let second = room.place(2, 40).unwrap();
        assert!(room.is_full());
        drop((first, second));
        assert_eq!(room.pictures(), 0);
        assert!(room.place(1, 1000).is_some(), "alone");
        room.note(Duration::from_secs(2));
        let all = room.place(3, 0).unwrap();
        assert_eq!(room.wait(), Duration::from_secs(6));
        drop(all);
        assert_eq!(room.wait(), Duration::ZERO);
    }
}
