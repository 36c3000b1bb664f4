//! Times look-ups in key tables of different sizes, in one thread and in a random order: `make bench-table`.
#![expect(
    clippy::unwrap_used,
    reason = "a measurement that cannot go on may say so by stopping"
)]

use std::hint::black_box;
use std::time::Instant;

use postern_gateway::keys::{
    AllowedIps, BucketName, Consumer, ConsumerId, KeyDigest, KeyEntry, KeyId, KeyState, KeyTable,
    Scopes, UnixMillis,
};

// As in the gateway: where memory lies decides what a look-up costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const KEYS_PER_CONSUMER: [usize; 2] = [1_000, 1];
const LOOKUPS: usize = 2_000_000;
const ROUNDS: usize = 5;

fn main() {
    println!(
        "| one look-up (least of {ROUNDS} rounds) | 1,000 keys a consumer | one key a consumer |"
    );
    println!("|---|---|---|");
    for size in SIZES {
        let cells = KEYS_PER_CONSUMER.map(|keys_per_consumer| {
            let (table, digests) = filled(size, keys_per_consumer);
            let nanos = (0..ROUNDS)
                .map(|_| nanos_each(&table, &digests))
                .fold(f64::INFINITY, f64::min);
            format!("{nanos:.0} ns")
        });
        println!("| {size} keys | {} |", cells.join(" | "));
    }
}

fn filled(size: usize, keys_per_consumer: usize) -> (KeyTable, Vec<KeyDigest>) {
    let table = KeyTable::new();
    let digests: Vec<KeyDigest> = (0..size)
        .map(|number| KeyDigest::of(&number.to_le_bytes()))
        .collect();
    let mut reload = table.reload();
    for (number, keys) in digests.chunks(keys_per_consumer).enumerate() {
        let consumer = ConsumerId::generate().unwrap();
        reload.consumer(Consumer {
            id: consumer,
            bucket: BucketName::default(),
            name: format!("consumer-{number:06}").parse().unwrap(),
            custom_id: None,
            metadata: None,
            scopes: "orders:read orders:write".parse().unwrap(),
            allowed_ips: AllowedIps::default(),
            plan: None,
            allowance: Default::default(),
            tags: Default::default(),
            created_at: UnixMillis(0),
        });
        for digest in keys {
            let id = KeyId::generate().unwrap();
            let entry = KeyEntry {
                digest: *digest,
                id,
                consumer,
                state: KeyState::Active,
                expires_at: None,
                deprecated_at: None,
                scopes: None::<Scopes>,
                allowance: Default::default(),
                restrictions: Default::default(),
                chain: None,
            };
            reload.key(entry).unwrap();
        }
    }
    reload.finish();
    (table, digests)
}

/// Nanoseconds of one look-up, with what a request does with the result: status and scope.
fn nanos_each(table: &KeyTable, digests: &[KeyDigest]) -> f64 {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let begun = Instant::now();
    for _ in 0..LOOKUPS {
        // Xorshift: an order that no cache foresees.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let next = (random % digests.len() as u64) as usize;
        let key = table.lookup(black_box(&digests[next])).unwrap();
        black_box((key.status(UnixMillis(0)), key.allows("orders:read")));
    }
    begun.elapsed().as_secs_f64() * 1e9 / LOOKUPS as f64
}
