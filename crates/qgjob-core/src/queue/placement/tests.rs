mod ordering;
mod sharing;
mod spreading;
mod world;
