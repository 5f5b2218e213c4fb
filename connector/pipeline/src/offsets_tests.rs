//! The tracker against a model that keeps every record for ever.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::source::Partition;

fn tenure(number: i32, epoch: u64) -> Arc<PartitionEpoch> {
    Arc::new(PartitionEpoch {
        partition: Partition {
            topic: "t".into(),
            number,
        },
        epoch,
    })
}

const ALL: Budget = Budget {
    records: usize::MAX,
    bytes: u64::MAX,
};

/// The next offset and the results of each portion.
fn ready(offsets: &mut Offsets<u32>, budget: Budget) -> Vec<(i64, Vec<u32>)> {
    offsets
        .portions(budget, None)
        .iter()
        .map(|portion| {
            let results = offsets.results(portion).copied().collect();
            (portion.next_offset, results)
        })
        .collect()
}

#[test]
fn only_the_finished_prefix_is_ready_and_offsets_may_have_gaps() {
    let mut offsets = Offsets::default();
    let partition = tenure(0, 1);
    offsets.open(Arc::clone(&partition));
    let now = Instant::now();
    let tickets: Vec<_> = [3, 7, 8, 20]
        .into_iter()
        .filter_map(|offset| offsets.admit(&partition, offset, 1, now).ok())
        .collect();
    assert_eq!(tickets.len(), 4);
    assert_eq!(offsets.finish(tickets[1], 71, 0), Ok(()));
    assert_eq!(ready(&mut offsets, ALL), []);
    assert_eq!(offsets.finish(tickets[0], 31, 0), Ok(()));
    assert_eq!(ready(&mut offsets, ALL), [(8, vec![31, 71])]);
    assert_eq!(offsets.finish(tickets[3], 201, 0), Ok(()));
    assert_eq!(ready(&mut offsets, ALL), [(8, vec![31, 71])]);

    let portions = offsets.portions(ALL, None);
    offsets.settle(&portions[0], portions[0].records);
    assert_eq!(ready(&mut offsets, ALL), []);
    assert_eq!(offsets.finish(tickets[2], 81, 0), Ok(()));
    assert_eq!(ready(&mut offsets, ALL), [(21, vec![81, 201])]);
}

#[test]
fn a_record_is_finished_once_and_read_once() {
    let mut offsets = Offsets::default();
    let partition = tenure(0, 1);
    offsets.open(Arc::clone(&partition));
    let now = Instant::now();
    let ticket = offsets.admit(&partition, 5, 1, now).expect("ours");
    assert_eq!(offsets.finish(ticket, 1, 0), Ok(()));
    assert_eq!(offsets.finish(ticket, 2, 0), Err(2));
    for offset in [5, 4, 0] {
        let again = offsets.admit(&partition, offset, 1, now);
        assert_eq!(again, Err(Unadmitted::Behind(5)));
    }
    assert!(!offsets.awaits(ticket));
}

#[test]
fn a_log_that_was_made_anew_is_read_by_a_tenure_of_its_own() {
    let mut offsets = Offsets::default();
    let (old, new) = (tenure(0, 1), tenure(0, 2));
    offsets.open(Arc::clone(&old));
    let now = Instant::now();
    for offset in 0..200 {
        offsets.admit(&old, offset, 10, now).expect("ours");
    }
    offsets.open(Arc::clone(&new));
    let ticket = offsets.admit(&new, 150, 10, now).expect("ours");
    assert_eq!(offsets.finish(ticket, 7, 0), Ok(()));
    // Of the old log nothing is left that could be committed.
    assert_eq!(ready(&mut offsets, ALL), [(151, vec![7])]);
}

#[test]
fn what_a_dead_tenure_held_is_forgotten_and_its_results_are_dropped() {
    let mut offsets = Offsets::default();
    let (old, new) = (tenure(0, 1), tenure(0, 2));
    offsets.open(Arc::clone(&old));
    let now = Instant::now();
    let early = offsets.admit(&old, 1, 10, now).expect("ours");
    let late = offsets.admit(&old, 2, 10, now).expect("ours");
    offsets.weigh(late, 7);
    assert_eq!(offsets.finish(early, 1, 5), Ok(()));
    let portion = offsets.portions(ALL, None).remove(0);

    offsets.open(Arc::clone(&new));
    assert_eq!(offsets.held(), Held::default());
    assert_eq!(offsets.finish(late, 2, 5), Err(2));
    assert_eq!(offsets.admit(&old, 3, 10, now), Err(Unadmitted::Ended));
    let again = offsets.admit(&new, 1, 10, now).expect("ours");
    assert_eq!(offsets.finish(again, 3, 0), Ok(()));
    // Its tenure has ended.
    offsets.settle(&portion, portion.records);
    assert_eq!(ready(&mut offsets, ALL), [(2, vec![3])]);
}

#[test]
fn a_budget_bounds_records_and_bytes_and_starves_no_partition() {
    let mut offsets = Offsets::default();
    let now = Instant::now();
    for number in 0..3 {
        let partition = tenure(number, 1);
        offsets.open(Arc::clone(&partition));
        for offset in 0..4 {
            let ticket = offsets.admit(&partition, offset, 10, now).expect("ours");
            offsets
                .finish(ticket, u32::try_from(number).expect("small"), 0)
                .expect("ours");
        }
    }
    let six = Budget {
        records: 6,
        bytes: u64::MAX,
    };
    assert_eq!(ready(&mut offsets, six), [(4, vec![0; 4]), (2, vec![1; 2])]);
    assert_eq!(ready(&mut offsets, six), [(4, vec![1; 4]), (2, vec![2; 2])]);
    assert_eq!(ready(&mut offsets, six), [(4, vec![2; 4]), (2, vec![0; 2])]);
    let bytes = |bytes| Budget {
        records: usize::MAX,
        bytes,
    };
    assert_eq!(ready(&mut offsets, bytes(25)), [(2, vec![0; 2])]);
    assert_eq!(ready(&mut offsets, bytes(1)), [(1, vec![1])]);
}

#[derive(Debug, Clone)]
enum Op {
    Open(i32),
    Admit { partition: i32, gap: i64 },
    Finish(prop::sample::Index),
    Deliver { records: usize, abort: bool },
    Forget(i32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => (0..3).prop_map(Op::Open),
        8 => (0..3, 1_i64..4).prop_map(|(partition, gap)| Op::Admit { partition, gap }),
        8 => any::<prop::sample::Index>().prop_map(Op::Finish),
        4 => (1_usize..9, any::<bool>())
            .prop_map(|(records, abort)| Op::Deliver { records, abort }),
        1 => (0..3).prop_map(Op::Forget),
    ]
}

/// One tenure in the model.
#[derive(Debug)]
struct Model {
    partition: Arc<PartitionEpoch>,
    alive: bool,
    /// Offset, first result.
    records: Vec<(i64, Option<u32>)>,
    delivered: usize,
}

proptest! {
    #[test]
    fn deliveries_are_the_finished_prefix_of_living_tenures_and_nothing_else(
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let mut offsets = Offsets::<u32>::default();
        let mut models: Vec<Model> = Vec::new();
        let mut current: BTreeMap<i32, usize> = BTreeMap::new();
        // Ticket, model and index of every record ever admitted.
        let mut admitted: Vec<(Ticket, usize, usize)> = Vec::new();
        let mut next_result = 0;
        let now = Instant::now();
        for op in ops {
            match op {
                Op::Open(number) => {
                    let partition = tenure(number, models.len() as u64);
                    offsets.open(Arc::clone(&partition));
                    if let Some(old) = current.insert(number, models.len()) {
                        models[old].alive = false;
                    }
                    models.push(Model { partition, alive: true, records: vec![], delivered: 0 });
                }
                Op::Admit { partition, gap } => {
                    let Some(&index) = current.get(&partition) else { continue };
                    let model = &mut models[index];
                    let offset = model.records.last().map_or(0, |(offset, _)| *offset) + gap;
                    let ticket = offsets.admit(&model.partition, offset, 10, now);
                    prop_assert_eq!(ticket.is_ok(), model.alive);
                    if let Ok(ticket) = ticket {
                        offsets.weigh(ticket, 3);
                        admitted.push((ticket, index, model.records.len()));
                        model.records.push((offset, None));
                    }
                }
                Op::Finish(index) => {
                    if admitted.is_empty() { continue }
                    let (ticket, model, record) = admitted[index.index(admitted.len())];
                    let model = &mut models[model];
                    let wanted = model.alive && model.records[record].1.is_none();
                    prop_assert_eq!(offsets.awaits(ticket), wanted);
                    prop_assert_eq!(offsets.finish(ticket, next_result, 5).is_ok(), wanted);
                    if wanted {
                        model.records[record].1 = Some(next_result);
                    }
                    next_result += 1;
                }
                Op::Deliver { records, abort } => {
                    let portions = offsets.portions(Budget { records, bytes: u64::MAX }, None);
                    prop_assert!(portions.iter().map(|portion| portion.records).sum::<usize>() <= records);
                    for portion in portions {
                        let model = models
                            .iter_mut()
                            .find(|model| model.partition == portion.partition)
                            .expect("only what was opened is delivered");
                        prop_assert!(model.alive);
                        let expected = &model.records[model.delivered..][..portion.records];
                        let results: Vec<_> = offsets.results(&portion).copied().map(Some).collect();
                        let first: Vec<_> = expected.iter().map(|(_, result)| *result).collect();
                        prop_assert_eq!(&results, &first);
                        prop_assert_eq!(portion.next_offset, expected[portion.records - 1].0 + 1);
                        if !abort {
                            model.delivered += portion.records;
                            offsets.settle(&portion, portion.records);
                        }
                    }
                }
                Op::Forget(number) => {
                    if let Some(index) = current.remove(&number) {
                        offsets.forget(&[Arc::clone(&models[index].partition)]);
                        models[index].alive = false;
                    }
                }
            }
            // What is held is what the model says is there.
            let mut held = Held::default();
            for model in models.iter().filter(|model| model.alive) {
                let left = &model.records[model.delivered..];
                let finished = left.iter().filter(|(_, result)| result.is_some()).count();
                held.finished += finished;
                held.unfinished += left.len() - finished;
                held.ready += left.iter().take_while(|(_, result)| result.is_some()).count();
                held.outputs += 5 * finished as u64;
                held.bytes += 10 * left.len() as u64 + 5 * finished as u64;
                held.tokens += 3 * (left.len() - finished) as u64;
            }
            prop_assert_eq!(offsets.held(), held);
            prop_assert_eq!(offsets.oldest().is_some(), held.finished + held.unfinished > 0);
        }
    }
}
