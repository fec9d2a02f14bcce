'use strict';

const { find, input, mask, save, start } = require('./start.js');

mask(input('token'));
const binary = find();
save('binary', binary);
start(binary, ['ci', 'github', 'run']);
