'use strict';
// Added by PW_TEST_REPORTER to a run that lists nothing: writes what the configuration says about its
// projects to $QGJOB_PROJECTS. Playwright's own JSON report leaves out `use`.
const fs = require('fs');
const path = require('path');

class Projects {
  version() { return 'v2'; }
  printsToStdio() { return false; }
  onConfigure(config) {
    const root = path.relative(process.cwd(), config.rootDir);
    const text = (value) => (typeof value === 'string' ? value : null);
    const projects = config.projects.map((project) => {
      const use = project.use || {};
      const device = use.device || {};
      return {
        name: project.name,
        platform: text(use.platform),
        provider: text(device.provider),
        device_name: text(device.name),
        root,
        playwright: text(config.version),
        timeout_ms: Math.max(0, Math.round(Number(project.timeout) || 0)),
      };
    });
    fs.writeFileSync(process.env.QGJOB_PROJECTS, JSON.stringify(projects));
  }
}

module.exports = Projects;
