mod burst;
mod explaining;
mod ordering;
mod same_decisions;
mod scanning;
mod sharing;
mod spreading;
mod world;
