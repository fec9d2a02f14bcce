// Prints what Allure's readers make of the given files, one JSON object for each test result: JUnit XML, or results of Allure's
// own. Exits 1 if no reader takes a file.
import { basename } from 'node:path';
import { allure2, junitXml } from '@allurereport/reader';
import { PathResultFile } from '@allurereport/reader-api';

const nothing = async () => {};
const visitor = {
  visitTestResult: async (result, { readerId }) => {
    const attachments = (result.steps ?? []).filter((step) => step.type === 'attachment').map((step) => step.originalFileName);
    const { name, fullName, status, historyId, message } = result;
    console.log(JSON.stringify({ readerId, name, fullName, status, historyId, message, attachments }));
  },
  visitAttachmentFile: async (file) => console.log(JSON.stringify({ attachment: file.getOriginalFileName() })),
  visitCheckResult: nothing, visitMetrics: nothing, visitTestFixtureResult: nothing, visitMetadata: nothing, visitGlobals: nothing,
};

for (const path of process.argv.slice(2)) {
  const reader = path.endsWith('.xml') ? junitXml : allure2;
  if (!(await reader.read(visitor, new PathResultFile(path, basename(path))))) {
    console.error(`no reader takes ${path}`);
    process.exitCode = 1;
  }
}
