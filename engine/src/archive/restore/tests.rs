//! Restoring: points, histories, damage, crashes.

mod crashes;
mod damage;
mod forks;
mod histories;
mod intervals;
mod listing;
mod mutants;
mod parts;
mod points;
mod spoiled;
mod world;
