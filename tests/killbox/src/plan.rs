//! Which cells, in which order: bounded, each store and each fault comes first.

use std::collections::{BTreeMap, HashSet};

use crate::cell::{Cell, Mode};

/// The cells of each lane. A lane has a store of its own, and lanes go side by
/// side.
pub fn lanes(cells: Vec<Cell>, random: &mut fastrand::Rng) -> Vec<Vec<Cell>> {
    let mut lanes = BTreeMap::<_, Vec<Cell>>::new();
    for cell in spread(cells, random) {
        let has_own_lane = cell.mode == Mode::Transactional;
        lanes.entry((cell.store, cell.finisher, has_own_lane)).or_default().push(cell);
    }
    lanes.into_values().collect()
}

/// Shuffled, but so that every fault is tried on every store before any is
/// tried there again, and every moment and mode before long.
fn spread(mut cells: Vec<Cell>, random: &mut fastrand::Rng) -> Vec<Cell> {
    random.shuffle(&mut cells);
    let mut order = Vec::with_capacity(cells.len());
    while !cells.is_empty() {
        let mut tried = HashSet::new();
        let (now, later) = cells.into_iter().partition(|cell: &Cell| {
            tried.insert((cell.store, cell.finisher, cell.mode == Mode::Transactional, cell.fault))
        });
        order.extend(now);
        cells = later;
    }
    order
}
