//! The HTTP contract, held over real sockets against a real server with a real store.

mod openapi;

mod submit;

mod world;
