//! Random runs beside a model, with reopening, kills and power cuts anywhere. A failing run is shrunk to its essence.

use proptest::prelude::*;

use super::world::{Step, World, scale};

pub(super) fn step() -> impl Strategy<Value = Step> {
    let keyspace = 0u8..3;
    prop_oneof![
        12 => (keyspace.clone(), any::<u8>(), any::<u16>(), any::<bool>())
            .prop_map(|(keyspace, key, bytes, durable)| Step::Put { keyspace, key, bytes, durable }),
        4 => (keyspace.clone(), any::<u8>()).prop_map(|(keyspace, key)| Step::Delete { keyspace, key }),
        6 => (
            prop::collection::vec((keyspace.clone(), any::<u8>(), prop::option::weighted(0.8, any::<u16>())), 0..40),
            any::<bool>()
        )
            .prop_map(|(operations, durable)| Step::Batch { operations, durable }),
        5 => (
            (keyspace.clone(), any::<u8>()),
            prop::collection::vec((keyspace.clone(), any::<u8>(), prop::option::weighted(0.8, any::<u16>())), 0..20),
            prop::bool::weighted(0.3),
            any::<bool>()
        )
            .prop_map(|(guard, operations, meddles, durable)| Step::Transact { guard, operations, meddles, durable }),
        3 => (
            prop::collection::vec((keyspace.clone(), any::<u8>(), prop::option::weighted(0.8, any::<u16>())), 0..150),
            prop::option::of((keyspace.clone(), any::<u8>(), any::<u16>())),
            prop::bool::weighted(0.8),
            any::<bool>()
        )
            .prop_map(|(operations, between, ends, durable)| Step::Bulk { operations, between, ends, durable }),
        3 => (keyspace.clone(), any::<u8>(), any::<u16>(), any::<bool>())
            .prop_map(|(keyspace, key, bytes, holds)| Step::PutIf { keyspace, key, bytes, holds }),
        2 => (keyspace.clone(), any::<u8>(), any::<u8>())
            .prop_map(|(keyspace, from, to)| Step::DeleteRange { keyspace, from, to }),
        2 => (keyspace.clone(), any::<u8>(), any::<u8>(), any::<u8>(), any::<bool>()).prop_map(
            |(keyspace, from, to, key, durable)| Step::TransactRange { keyspace, from, to, key, durable }
        ),
        3 => keyspace.clone().prop_map(|keyspace| Step::Create { keyspace }),
        1 => keyspace.prop_map(|keyspace| Step::Drop { keyspace }),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Compact),
        1 => Just(Step::Backup),
        4 => (1u8..30).prop_map(|steps| Step::Background { steps }),
        2 => (1u16..2000).prop_map(|ms| Step::Pass { ms }),
        2 => Just(Step::TakeSnapshot),
        2 => Just(Step::DropSnapshot),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        2 => any::<u64>().prop_map(|seed| Step::PowerCut { seed }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48 * scale() as u32,
        max_shrink_iters: 4000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_database_is_its_model_through_crashes(seed: u64, steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new(seed);
        world.open(0).unwrap();
        for keyspace in 0..2 {
            world.step(&Step::Create { keyspace }).unwrap();
        }
        for (at, step) in steps.iter().enumerate() {
            world.step(step).unwrap();
            if at % 16 == 15 {
                world.check().unwrap();
            }
        }
        world.check().unwrap();
        world.step(&Step::Reopen).unwrap();
        world.check().unwrap();
    }
}
