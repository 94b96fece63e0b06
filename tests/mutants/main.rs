//! Small changes of the shaders, which their ops' cases have to notice: `./check mutants`. What they do not notice
//! changes nothing, as `survivors.txt` says, or needs a case.
//!
//! `FULLCONV_MUTANTS=all` tries all changes, not a sample; `FULLCONV_SHADERS="relu conv2d"` tries only these shaders.

#[path = "../common/mod.rs"]
mod common;

mod mutate;
mod special;
mod survivors;
mod textures;
mod uses;

use crate::common::ways::setups;
use fullconv::low_level::gpu::Network;
use mutate::{Mutant, mutants, sample};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Instant;
use survivors::Known;
use uses::{Outcome, Run, places, uses};

/// The most mutants of a shader, unless all are asked for.
const MOST: usize = 60;
/// The same of a shader that takes seconds to compile.
const MOST_OF_SLOW: usize = 6;
/// The least share of the mutants that are noticed.
const LEAST_SHARE: f64 = 0.98;

/// What became of a shader's mutants.
#[derive(Default)]
struct Report {
    name: &'static str,
    killed: usize,
    survivors: usize,
    /// Survivors that are not listed, listed mutants that are killed, and unchanged shaders that are wrong.
    faults: Vec<String>,
}

/// The runs of a shader, in the order in which they are tried: one that notices a mutant comes first from then on.
struct Runs<'a> {
    all: &'a [Box<dyn Run>],
    order: Vec<usize>,
    /// Those that are right without a change.
    right: BTreeSet<usize>,
    /// What is wrong without a change.
    faults: Vec<String>,
}

impl Runs<'_> {
    /// What notices a mutant; `None` if nothing does. `Err` if it is no shader.
    fn killer(&mut self, mutant: &Mutant) -> Result<Option<String>, String> {
        let mut refused = "no text has the line".to_owned();
        let (mut ran, mut at) = (false, 0);
        while at < self.order.len() {
            let number = self.order[at];
            let one = &self.all[number];
            at += 1;
            if one
                .texts()
                .into_iter()
                .all(|text| mutant.apply(text).is_none())
            {
                continue;
            }
            match one.run(&|text| mutant.apply(text)) {
                Outcome::Invalid(why) if !ran => refused = why,
                Outcome::Invalid(_) => {}
                Outcome::Right => ran = true,
                Outcome::Wrong(what) => {
                    self.order.remove(at - 1);
                    at -= 1;
                    if self.right.contains(&number) || self.is_right(number) {
                        self.order.insert(0, number);
                        return Ok(Some(format!("{}: {what}", one.what())));
                    }
                }
            }
        }
        if ran { Ok(None) } else { Err(refused) }
    }

    /// Whether a run is right without a change.
    fn is_right(&mut self, number: usize) -> bool {
        let one = &self.all[number];
        match one.run(&|_| None) {
            Outcome::Right => self.right.insert(number),
            fault => {
                let what = one.what();
                // The first few tell enough.
                if self.faults.len() < 3 {
                    self.faults
                        .push(format!("without a change, {what}: {fault:?}"));
                }
                false
            }
        }
    }
}

fn check(name: &'static str, uses: &[Box<dyn Run>], known: &Known) -> Report {
    let start = Instant::now();
    let texts: BTreeSet<_> = uses.iter().flat_map(|one| one.texts()).collect();
    let mut all: Vec<Mutant> = Vec::new();
    for mutant in texts.iter().flat_map(|text| mutants(text)) {
        if !all.contains(&mutant) {
            all.push(mutant);
        }
    }
    let most = match (std::env::var("FULLCONV_MUTANTS"), name) {
        (Ok(number), _) if number == "all" => all.len(),
        (Ok(number), _) => number.parse().unwrap(),
        (_, "conv2d_coop" | "winograd_product_coop") => MOST_OF_SLOW,
        _ => MOST,
    };
    let mut report = Report {
        name,
        ..Report::default()
    };
    let mut runs = Runs {
        all: uses,
        order: (0..uses.len()).collect(),
        right: BTreeSet::new(),
        faults: Vec::new(),
    };
    let (total, mut invalid, mut listed) = (all.len(), 0, Vec::new());
    for mutant in sample(all, most) {
        match runs.killer(&mutant) {
            Err(_) => invalid += 1,
            Ok(None) => {
                report.survivors += 1;
                let reason = known.reason(name, &mutant);
                let shown = survivors::shown(name, &mutant, reason);
                match reason {
                    Some(_) => listed.push(shown),
                    None => report.faults.push(shown),
                }
            }
            Ok(Some(by)) => {
                report.killed += 1;
                if known.reason(name, &mutant).is_some() {
                    let shown = survivors::shown(name, &mutant, Some("is listed"));
                    report.faults.push(format!("{shown}\nis killed by {by}"));
                }
            }
        }
    }
    report.faults.extend(runs.faults);
    println!(
        "{name}: {} killed, {} survive, {invalid} are no shaders, of {total}; {} runs of {} texts, {:.0} s\n{}",
        report.killed,
        report.survivors,
        uses.len(),
        texts.len(),
        start.elapsed().as_secs_f64(),
        [listed, report.faults.clone()].concat().join("\n"),
    );
    report
}

#[test]
#[ignore = "takes some twenty minutes; ./check mutants runs it"]
fn small_changes_of_shaders_are_noticed() {
    let setups = setups();
    if setups.is_empty() {
        return;
    }
    // The networks of a device share pipelines for as long as one network exists.
    let _kept: Vec<_> = setups
        .iter()
        .map(|setup| Network::new(&setup.gpu))
        .collect();
    let known = Known::read();
    let mut places: Vec<_> = places(&setups).into_iter().collect();
    places.extend(textures::names().map(|name| (name, Vec::new())));
    if let Ok(wanted) = std::env::var("FULLCONV_SHADERS") {
        places.retain(|(name, _)| wanted.split(' ').any(|wanted| wanted == *name));
    }
    places.sort_by_key(|(_, places)| places.len());
    // A mutant's panic is an outcome.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let (queue, reports) = (Mutex::new(places), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let next = queue.lock().unwrap().pop();
            let Some((name, places)) = next else { return };
            let uses = match textures::names().contains(&name) {
                true => textures::uses(&setups[0].gpu, name),
                false => uses(name, &setups, &places),
            };
            let report = check(name, &uses, &known);
            reports.lock().unwrap().push(report);
        }
    };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        std::thread::scope(|scope| {
            let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                if let Err(panic) = worker.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        });
    }));
    std::panic::set_hook(hook);
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    let reports = reports.into_inner().unwrap();
    let sum = |of: fn(&Report) -> usize| reports.iter().map(of).sum::<usize>();
    let (killed, survivors) = (sum(|report| report.killed), sum(|report| report.survivors));
    let share = killed as f64 / (killed + survivors) as f64;
    println!(
        "all: {killed} of {} killed, {:.2} %",
        killed + survivors,
        100.0 * share
    );
    let faults = reports.iter().filter(|report| !report.faults.is_empty());
    let faults: Vec<_> = faults.map(|report| report.name).collect();
    assert!(
        faults.is_empty(),
        "survivors that are not listed, or listed mutants that are killed: {faults:?}"
    );
    assert!(share >= LEAST_SHARE, "{:.2} % are killed", 100.0 * share);
}
