'use strict';

const { start } = require('./start.js');

// Without a binary the main step started nothing.
if (process.env.STATE_binary) {
  start(process.env.STATE_binary, ['ci', 'github', 'post']);
}
