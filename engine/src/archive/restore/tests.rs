//! Restoring: points, histories, damage, crashes.

mod crashes;
mod damage;
mod histories;
mod mutants;
mod parts;
mod points;
mod spoiled;
mod world;
