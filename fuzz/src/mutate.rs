//! Runs every target, or those that are named, on random mutations of its seeds: for a stable toolchain, without coverage.
//!
//! `mutate SECONDS [TARGET…]`, with SEED=N in the environment to repeat a run. An input that a target panics on is written
//! to `fuzz/artifacts/TARGET/`, and `mutate FILE TARGET` runs it again.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postern_gateway::fuzzing::TARGETS;

/// Longest input; the parsers' own limits lie at 64 KiB, and shorter inputs reach more in the same time.
const MAX_BYTES: usize = 4096;
/// Most changes from a seed to an input.
const MAX_CHANGES: usize = 8;
/// Pieces that mean something to a parser.
const PIECES: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b":",
    b";",
    b",",
    b"\"",
    b"\"\"",
    b" ",
    b"\t",
    b"0",
    b"ffffffffffffffff",
    b"-1",
    b"{",
    b"}",
    b"[",
    b"\\u0000",
    b"null",
    b"\xef\xbb\xbf",
    b"\xff",
    b"%5f",
    b"pstn_",
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().unwrap_or_else(|| "60".to_owned());
    let named: Vec<String> = arguments.collect();
    let targets = TARGETS
        .into_iter()
        .filter(|(name, _)| named.is_empty() || named.iter().any(|named| named == name));
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(1, |now| now.as_secs())
    });
    let mut is_sound = true;
    for (name, target) in targets {
        match first.parse() {
            Ok(seconds) => {
                is_sound &= run(name, target, Duration::from_secs(seconds), seed);
            }
            Err(_) => target(&fs::read(&first).expect("neither a number of seconds nor a file")),
        }
    }
    if is_sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs one target; `false` when an input fails.
fn run(name: &str, target: fn(&[u8]), time: Duration, seed: u64) -> bool {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let seeds = seeds(&home.join("seeds").join(name));
    let mut random = Random(seed);
    let begun = Instant::now();
    let mut inputs = 0_u64;
    let mut planned = seeds.clone().into_iter();
    while begun.elapsed() < time {
        let input = planned
            .next()
            .unwrap_or_else(|| mutated(&seeds, &mut random));
        if catch_unwind(|| target(&input)).is_err() {
            let file = home
                .join("artifacts")
                .join(name)
                .join(format!("crash-{seed}-{inputs}"));
            let kept = file.parent().map_or(Ok(()), fs::create_dir_all);
            let kept = kept.and_then(|()| fs::write(&file, &input));
            eprintln!(
                "{name}: FAILED, with SEED={seed}: {} ({kept:?})",
                file.display()
            );
            return false;
        }
        inputs += 1;
    }
    println!(
        "{name}: {inputs} inputs in {} s, SEED={seed}",
        time.as_secs()
    );
    true
}

fn seeds(folder: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder of seeds for each target");
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let mut seeds: Vec<Vec<u8>> = files.iter().flat_map(fs::read).collect();
    seeds.push(Vec::new());
    seeds
}

fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(MAX_CHANGES) {
        let at = random.below(input.len() + 1);
        let end = at + random.below(input.len() - at + 1).min(32);
        match random.below(7) {
            0 if at < input.len() => input[at] = random.next() as u8,
            1 if at < input.len() => input[at] ^= 1 << random.below(8),
            2 => drop(input.drain(at..end)),
            3 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            4 => drop(input.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
            5 => drop(input.splice(at..end, PIECES[random.below(PIECES.len())].iter().copied())),
            _ => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
        input.truncate(MAX_BYTES);
    }
    input
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }
}
