//! Where an attempt finds its project.
